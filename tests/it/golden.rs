//! All that the program tells of a fixture tree, held against a file.
//!
//! After a change that is meant, run the test with `TIMEWAIT_UPDATE_GOLDEN=1` and read the diff.
