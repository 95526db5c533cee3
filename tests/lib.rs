//! Whole-system tests live in `it/`, the conversations that they replay in `data/`.
