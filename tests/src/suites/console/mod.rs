//! Suite of the console: its pages in a real browser, and its checked-in build.

mod build;
mod pages;
pub mod table;
