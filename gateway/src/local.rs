//! [`Local`]: what all worker threads share, as one of them has it.

use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

/// A shared part of the program in the hands of one worker thread. Each request hands it on, which
/// is counted within the thread: in an `Arc`, all threads would count in one place and wait for each
/// other there.
#[derive(Debug)]
pub struct Local<T>(Rc<Hold<T>>);

#[derive(Debug)]
struct Hold<T>(Arc<T>);

impl<T> Local<T> {
    /// For this thread.
    #[must_use]
    pub fn new(shared: Arc<T>) -> Self {
        Self(Rc::new(Hold(shared)))
    }
}

impl<T> Clone for Local<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T> Deref for Local<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.0
    }
}
