//! nylon-abi
