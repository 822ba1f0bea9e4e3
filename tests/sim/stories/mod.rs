//! What keepup does, told by what it says. Each expectation was written from the design.

mod policy;
