//! The store against simple models, driven by bytes: bodies of the fuzz targets and of seeded
//! tests.

pub use super::tree::model::fuzz_tree_model;
