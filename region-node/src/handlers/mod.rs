//! HTTP in, HTTP out. Extractors say what a call needs, the body says what happens.

pub mod fallback;
pub mod health;
pub mod operator;
pub mod resolve;
