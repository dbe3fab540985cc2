//! What a file is, and where in it a filesystem is: what is taken for one, what is not, and that
//! nothing doubtful is opened for writing.

mod bench;
mod filetype;
mod halves;
mod places;
