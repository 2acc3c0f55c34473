//! nylon-core
