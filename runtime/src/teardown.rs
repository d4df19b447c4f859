//! Teardown that outlives its caller.
