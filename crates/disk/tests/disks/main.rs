//! Real images, made by the tools that people make them with, and damaged ones.

mod exercise;
mod ext;
mod fat;
mod hostile;
mod iso;
mod make;
mod partitions;
mod tree;
