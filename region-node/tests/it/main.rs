//! A whole node over HTTP, on a store in a temporary folder and a clock that the test moves.

#[cfg(test)]
#[path = "../../../tests/it/support/authority.rs"]
mod authority;
#[cfg(test)]
mod filters;
#[cfg(test)]
mod link_tls;
#[cfg(test)]
mod operator;
#[cfg(test)]
mod resolve;
#[cfg(test)]
mod support;
