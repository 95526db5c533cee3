//! A whole node over HTTP, on a store in a temporary folder and a clock that the test moves.

#[cfg(test)]
mod filters;
#[cfg(test)]
mod operator;
#[cfg(test)]
mod resolve;
#[cfg(test)]
mod support;
