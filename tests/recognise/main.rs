//! What a file is, and where in it a filesystem is: what is taken for one, what is not, and that
//! nothing doubtful is opened for writing.

mod filetype;
mod fixture;
mod halves;
mod moved_roots;
mod places;
