//! Native plugins: libraries that the tests build with the system's C compiler.

/// Building libraries.
mod building;
/// What can be wrong with a library.
mod faults;
/// Several libraries in one process.
mod instances;
