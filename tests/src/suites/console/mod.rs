//! Suite of what people see: the console in a real browser, its checked-in build, and the command line.

mod build;
mod command_line;
mod pages;
pub mod table;
