//! Files that hold a filesystem in another form or place. They are recognised and read, but never
//! written. Images are taken out of them and put back.

mod choosing;
mod generators;
mod hostile;
mod layouts;
mod mounting;
mod nand;
mod reading;
mod recipes;
mod scanning;
mod tools;
mod uf2;
mod wrapping;
