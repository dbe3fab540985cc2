//! Images that a driver would not make in one piece: directories that are not in the thread or not
//! sorted, interrupted operations, pairs with an unusable block, grown superblock chains, blocks
//! that are erased to zero, damaged blocks. `ODD_ROUNDS` asks for more damaged images.
//!
//! For each kind, it is known what a read-only mount shows and what the first write repairs.
//! Nothing is ever damaged.

mod damaged;
mod dead_halves;
mod fixture;
mod foreign;
mod interrupted;
