//! The receive path without a framework.
