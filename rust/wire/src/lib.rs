//! nylon-wire
