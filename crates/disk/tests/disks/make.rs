//! Makes images by the system's tools.

use firstlight_disk::{Budget, Limits, Source, image::Image};
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;

/// More than any honest image takes.
pub const PLENTY: Limits = Limits {
    bytes: 1 << 30,
    steps: 1 << 24,
};

/// Runs a shell script with `arguments` for its `$1`, `$2` and so on.
pub fn shell(script: &str, arguments: &[&Path]) {
    let output = Command::new("sh")
        .args(["-euc", script, "sh"])
        .args(arguments)
        // mkfs and its like are in sbin, which a user's path may not have.
        .env(
            "PATH",
            format!(
                "{}:/usr/sbin:/sbin",
                std::env::var("PATH").unwrap_or_default()
            ),
        )
        .env("MTOOLS_SKIP_CHECK", "1")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .expect("a shell");
    assert!(
        output.status.success(),
        "{script}\n{}{}`cargo xtask setup` installs what the tests use.",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
}

/// An image as a source with a large budget.
pub fn image(path: &Path) -> Source {
    let image = Image::open(path).expect("the image");
    Source::new(Rc::new(image), Budget::new(PLENTY))
}

/// Bytes as a source with a large budget.
pub fn bytes(bytes: Vec<u8>) -> Source {
    Source::new(Rc::new(bytes), Budget::new(PLENTY))
}

/// Mounts `image`, runs `script` with the place for `$2`, and copies what is then there to `files`. Returns whether that can be done
/// here: it takes root and loop devices.
pub fn mounted(image: &Path, files: &Path, script: &str) -> bool {
    let whole = format!(
        "files=$2; set -- $1 $2.mount
         mount -o loop $1 $2 || exit 77
         trap \"umount $2\" EXIT
         ({script})
         cp -a --sparse=always $2/. $files; sync"
    );
    std::fs::create_dir_all(files.with_extension("mount")).expect("a directory");
    let output = Command::new("sh")
        .args(["-euc", &whole, "sh"])
        .args([image, files])
        .output()
        .expect("a shell");
    if output.status.code() == Some(77) {
        return false;
    }
    assert!(
        output.status.success(),
        "{whole}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    true
}
