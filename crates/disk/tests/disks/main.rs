//! Real images, made by the tools that people make them with, and damaged ones.

mod btrfs;
mod cycles;
mod damage;
mod exercise;
mod ext;
mod fat;
mod holes;
mod hostile;
mod iso;
mod lvm;
mod make;
mod partitions;
mod squashfs;
mod tree;
mod xfs;
