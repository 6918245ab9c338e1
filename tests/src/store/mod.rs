//! What is stored: how large it is, how it changes, and that nothing is lost.

pub mod auto;
pub mod codecs;
pub mod kinds;
pub mod recode;
pub mod table;
