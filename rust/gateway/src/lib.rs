//! nylon-gateway
