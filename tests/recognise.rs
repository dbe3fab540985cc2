//! What a file is, and where a filesystem is in it: what is taken for one, what is not, and that
//! nothing doubtful is opened for writing.

mod common;

#[path = "recognise/bench.rs"]
mod bench;
#[path = "recognise/filetype.rs"]
mod filetype;
#[path = "recognise/halves.rs"]
mod halves;
#[path = "recognise/places.rs"]
mod places;
