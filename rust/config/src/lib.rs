//! nylon-config
