//! Nylon's data plane, in the order in which a request flows through it.
//!
//! One single-threaded runtime per core owns its connections, its upstream pools and its exchanges: nothing on
//! the way of a request is shared between threads but the plan, which is swapped whole.

/// What runs a plugin's code: the two host traits, and the hosts that need no Python.
pub mod plugin;
