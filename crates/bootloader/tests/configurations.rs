//! The configurations of distributions, written anew by their shape: what each boots.

use firstlight_bootloader::find;
use firstlight_bootloader::grub::{Machine, Opened};
use firstlight_bootloader::menu::{Boot, Menu};
use firstlight_bootloader::tree::Tree;

/// What is booted, in a form that is easy to compare: kernel, initial RAM disks, command line.
type Booted = (String, Vec<String>, String);

fn booted(boot: Boot) -> Booted {
    let initrds = boot.initrds.into_iter().map(|place| place.path).collect();
    (boot.kernel.path, initrds, boot.args)
}

fn expected(kernel: &str, initrds: &[&str], args: &str) -> Booted {
    let initrds = initrds.iter().map(|path| (*path).to_owned()).collect();
    (kernel.to_owned(), initrds, args.to_owned())
}

/// Gives the menu of the first volume that has a configuration.
fn with_menu<T>(mut tree: Tree, work: impl FnOnce(&mut Machine, Menu) -> T) -> T {
    let mut machine = Machine::new(&mut tree);
    for volume in 0..machine.volumes.count() {
        if let Ok(found) = find::on_volume(&mut machine, volume) {
            let Opened::Menu(menu) = found.opened else {
                panic!("it boots without a menu");
            };
            return work(&mut machine, menu);
        }
    }
    panic!("no configuration: {:?}", machine.notes.all());
}

fn default(tree: &Tree) -> Booted {
    with_menu(tree.clone(), |machine, menu| {
        booted(find::default(machine, &menu).expect("the default boots"))
    })
}

fn entry(tree: &Tree, choice: &str) -> Booted {
    with_menu(tree.clone(), |machine, menu| {
        booted(find::entry(machine, &menu, choice).expect("the entry boots"))
    })
}

/// What is left out must be what the test says: nothing else.
fn notes(tree: &Tree) -> Vec<String> {
    with_menu(tree.clone(), |machine, menu| {
        let _ = find::default(machine, &menu);
        machine.notes.all().to_vec()
    })
}

fn volume(uuid: &str, label: &str, files: &[(&str, &str)]) -> Tree {
    let mut tree = Tree::default();
    tree.add(&["hd0,gpt1", "hd0,1"], uuid, label, files);
    tree
}

fn debian(env: &str) -> Tree {
    volume(
        "AAAA-1111",
        "",
        &[
            ("/boot/grub/grub.cfg", include_str!("configs/debian.cfg")),
            ("/boot/grub/grubenv", env),
            ("/boot/vmlinuz-6.1.0-2-amd64", "k"),
            ("/boot/initrd.img-6.1.0-2-amd64", "i"),
            ("/boot/vmlinuz-6.1.0-1-amd64", "k"),
            ("/boot/initrd.img-6.1.0-1-amd64", "i"),
        ],
    )
}

#[test]
fn debian_boots_its_first_entry_or_the_saved_one() {
    let newest = expected(
        "/boot/vmlinuz-6.1.0-2-amd64",
        &["/boot/initrd.img-6.1.0-2-amd64"],
        "root=UUID=aaaa-1111 ro quiet",
    );
    let recovery = expected(
        "/boot/vmlinuz-6.1.0-1-amd64",
        &["/boot/initrd.img-6.1.0-1-amd64"],
        "root=UUID=aaaa-1111 ro single dis_ucode_ldr",
    );
    assert_eq!(default(&debian("")), newest);
    assert_eq!(notes(&debian("")), [""; 0]);
    for env in [
        "saved_entry=1>1\n",
        "next_entry=gnulinux-advanced-1111>gnulinux-6.1.0-1-amd64-recovery-1111\n",
        "prev_saved_entry=0\nnext_entry=1>1\n",
        "saved_entry=Advanced options for Debian GNU/Linux>Debian GNU/Linux, with Linux 6.1.0-1-amd64 (recovery mode)\n",
    ] {
        assert_eq!(default(&debian(env)), recovery, "{env}");
    }
    assert_eq!(default(&debian("saved_entry=gone\n")), newest);
}

#[test]
fn entries_are_chosen_by_pygrubs_number_by_title_and_by_id() {
    let tree = debian("");
    let recovery = "/boot/vmlinuz-6.1.0-1-amd64";
    assert_eq!(entry(&tree, "2").0, recovery);
    assert_eq!(
        entry(
            &tree,
            "Debian GNU/Linux, with Linux 6.1.0-1-amd64 (recovery mode)"
        )
        .0,
        recovery
    );
    assert_eq!(
        entry(&tree, "gnulinux-6.1.0-1-amd64-recovery-1111").0,
        recovery
    );
    assert_eq!(entry(&tree, "1>1").0, recovery);
    with_menu(tree, |machine, menu| {
        assert_eq!(
            find::entry(machine, &menu, "9"),
            Err(find::EntryError::Missing)
        );
    });
}

#[test]
fn ubuntu_boots_from_a_separate_partition() {
    let mut tree = volume("1", "", &[("/hello", "")]);
    let files = [
        ("/grub/grub.cfg", include_str!("configs/ubuntu.cfg")),
        ("/vmlinuz-6.8.0-31-generic", "k"),
        ("/initrd.img-6.8.0-31-generic", "i"),
    ];
    tree.add(&["hd0,gpt2", "hd0,2"], "cccc-3333", "", &files);
    let ubuntu = expected(
        "/vmlinuz-6.8.0-31-generic",
        &["/initrd.img-6.8.0-31-generic"],
        "root=/dev/mapper/ubuntu--vg-lv ro vt.handoff=7",
    );
    assert_eq!(default(&tree), ubuntu);
    assert_eq!(notes(&tree), [""; 0]);
    tree.put(1, "/grub/grubenv", b"initrdfail=1\n");
    assert_eq!(default(&tree).1, [""; 0]);
}

fn fedora(env: &str) -> Tree {
    let mut tree = Tree::default();
    let stub = "search --no-floppy --root-dev-only --fs-uuid --set=dev dddd-4444\n\
        set prefix=($dev)/grub2\nexport $prefix\nconfigfile $prefix/grub.cfg\n";
    tree.add(
        &["hd0,gpt1", "hd0,1"],
        "ABCD",
        "",
        &[("/EFI/fedora/grub.cfg", stub)],
    );
    let entry = |version: &str| {
        format!(
            "title Fedora Linux ({version})\nversion {version}\nlinux /vmlinuz-{version}\n\
             initrd /initramfs-{version}.img $tuned_initrd\noptions $kernelopts $tuned_params\n\
             grub_users $grub_users\ngrub_arg --unrestricted\ngrub_class fedora\n"
        )
    };
    let files = [
        ("/grub2/grub.cfg", include_str!("configs/fedora.cfg")),
        ("/grub2/grubenv", env),
        (
            "/loader/entries/m-6.9.1-200.fc40.x86_64.conf",
            &entry("6.9.1-200.fc40.x86_64"),
        ),
        (
            "/loader/entries/m-6.10.2-200.fc40.x86_64.conf",
            &entry("6.10.2-200.fc40.x86_64"),
        ),
        ("/loader/entries/m-0-rescue.conf", &entry("0-rescue")),
        ("/vmlinuz-6.9.1-200.fc40.x86_64", "k"),
        ("/initramfs-6.9.1-200.fc40.x86_64.img", "i"),
        ("/vmlinuz-6.10.2-200.fc40.x86_64", "k"),
        ("/initramfs-6.10.2-200.fc40.x86_64.img", "i"),
    ];
    tree.add(&["hd0,gpt2", "hd0,2"], "dddd-4444", "", &files);
    tree
}

#[test]
fn fedora_boots_by_its_loader_entries() {
    let newest = expected(
        "/vmlinuz-6.10.2-200.fc40.x86_64",
        &["/initramfs-6.10.2-200.fc40.x86_64.img"],
        "root=/dev/mapper/fedora-root ro",
    );
    assert_eq!(default(&fedora("")), newest);
    assert_eq!(notes(&fedora("")), [""; 0]);
    let env =
        "saved_entry=m-6.9.1-200.fc40.x86_64\nkernelopts=root=UUID=1 ro rhgb\nboot_success=0\n";
    let saved = default(&fedora(env));
    assert_eq!(saved.0, "/vmlinuz-6.9.1-200.fc40.x86_64");
    assert_eq!(saved.2, "root=UUID=1 ro rhgb");
    // Boot counting goes to the second entry after too many failures.
    let failed = "boot_counter=0\nboot_success=0\n";
    assert_eq!(default(&fedora(failed)).0, "/vmlinuz-6.9.1-200.fc40.x86_64");
}

#[test]
fn opensuse_boots_itself_and_its_snapshots() {
    let config = include_str!("configs/opensuse.cfg");
    let snapshot =
        "menuentry old { linux /boot/vmlinuz-6.9-default root=UUID=eeee-5555 $extra_cmdline\n}\n";
    let tree = volume(
        "eeee-5555",
        "",
        &[
            ("/boot/grub2/grub.cfg", config),
            (
                "/.snapshots/grub-snapshot.cfg",
                include_str!("configs/opensuse-snapshots.cfg"),
            ),
            ("/.snapshots/7/snapshot/boot/grub2/grub.cfg", snapshot),
            ("/boot/vmlinuz-6.9-default", "k"),
            ("/boot/initrd-6.9-default", "i"),
        ],
    );
    let system = expected(
        "/boot/vmlinuz-6.9-default",
        &["/boot/initrd-6.9-default"],
        "root=UUID=eeee-5555 splash=silent",
    );
    assert_eq!(default(&tree), system);
    assert_eq!(notes(&tree), [""; 0]);
    let old = entry(&tree, "1");
    assert_eq!(
        old.2,
        "root=UUID=eeee-5555 rootflags=subvol=@/.snapshots/7/snapshot"
    );
}

#[test]
fn nixos_boots_a_generation() {
    let tree = volume(
        "ffff-6666",
        "",
        &[
            ("/grub/grub.cfg", include_str!("configs/nixos.cfg")),
            ("/kernels/abc-linux-6.6-bzImage", "k"),
            ("/kernels/abc-initrd-linux-6.6-initrd", "i"),
            ("/kernels/old-linux-6.1-bzImage", "k"),
            ("/kernels/old-initrd", "i"),
        ],
    );
    let newest = expected(
        "/kernels/abc-linux-6.6-bzImage",
        &["/kernels/abc-initrd-linux-6.6-initrd"],
        "init=/nix/store/abc-nixos/init loglevel=4",
    );
    assert_eq!(default(&tree), newest);
    assert_eq!(notes(&tree), [""; 0]);
}

#[test]
fn in_a_submenu_only_exported_variables_are_known_as_in_grub() {
    // `drive1` is not exported: in the submenu it is empty, and `()` is `root`.
    let tree = volume(
        "ffff-6666",
        "",
        &[
            ("/grub/grub.cfg", include_str!("configs/nixos.cfg")),
            ("/kernels/old-linux-6.1-bzImage", "k"),
            ("/kernels/old-initrd", "i"),
        ],
    );
    assert_eq!(entry(&tree, "1").0, "/kernels/old-linux-6.1-bzImage");
}

#[test]
fn coreos_boots_by_label_with_ignition_once() {
    let entry = "title Fedora CoreOS\nversion 1\nlinux /ostree/fedora-coreos-1/vmlinuz\n\
        initrd /ostree/fedora-coreos-1/initramfs.img\noptions mitigations=auto $ignition_firstboot ostree=/ostree/boot.1/x/0\n";
    let files = [
        ("/grub2/grub.cfg", include_str!("configs/coreos.cfg")),
        ("/loader/entries/ostree-1-fedora-coreos.conf", entry),
        ("/ostree/fedora-coreos-1/vmlinuz", "k"),
        ("/ostree/fedora-coreos-1/initramfs.img", "i"),
    ];
    let mut tree = volume("1234", "boot", &files);
    let args = |extra: &str| format!("mitigations=auto {extra}ostree=/ostree/boot.1/x/0");
    assert_eq!(default(&tree).2, args(""));
    tree.put(
        0,
        "/ignition.firstboot",
        b"set ignition_network_kcmdline='rd.neednet=1'\n",
    );
    let first = default(&tree).2;
    assert_eq!(first, args("ignition.firstboot rd.neednet=1 "));
}

#[test]
fn openwrt_and_arch_boot() {
    let openwrt = volume(
        "",
        "kernel",
        &[
            ("/boot/grub/grub.cfg", include_str!("configs/openwrt.cfg")),
            ("/boot/vmlinuz", "k"),
        ],
    );
    let args = "root=PARTUUID=abcd-02 rootwait console=tty0 console=ttyS0,115200n8 noinitrd";
    assert_eq!(default(&openwrt), expected("/boot/vmlinuz", &[], args));
    let arch = volume(
        "7777-7777",
        "",
        &[
            ("/boot/grub/grub.cfg", include_str!("configs/arch.cfg")),
            ("/boot/vmlinuz-linux", "k"),
            ("/boot/intel-ucode.img", "u"),
            ("/boot/initramfs-linux.img", "i"),
        ],
    );
    let initrds = ["/boot/intel-ucode.img", "/boot/initramfs-linux.img"];
    let args = "root=UUID=7777-7777 rw loglevel=3 quiet";
    assert_eq!(
        default(&arch),
        expected("/boot/vmlinuz-linux", &initrds, args)
    );
}

#[test]
fn a_live_cd_finds_its_kernels_by_pattern_and_in_an_image() {
    let image = Tree::with(&[("/live/vmlinuz", "k"), ("/live/initrd", "i")]);
    let mut tree = volume(
        "9999",
        "",
        &[
            ("/boot/grub/grub.cfg", include_str!("configs/live.cfg")),
            (
                "/boot/grub/extra-1.cfg",
                "set iso_path=/x.iso\nexport iso_path\n",
            ),
            ("/live/vmlinuz-6.1.0-2-amd64", "k"),
            ("/live/initrd.img-6.1.0-2-amd64", "i"),
            ("/images/live.iso", "iso"),
        ],
    );
    tree.image("/images/live.iso", image);
    let live = expected(
        "/live/vmlinuz-6.1.0-2-amd64",
        &["/live/initrd.img-6.1.0-2-amd64"],
        "boot=live components findiso=/x.iso \"dyndbg=file a +p\"",
    );
    assert_eq!(default(&tree), live);
    let file = entry(&tree, "iso");
    assert_eq!(
        file,
        expected(
            "/live/vmlinuz",
            &["/live/initrd"],
            "boot=live findiso=/images/live.iso"
        )
    );
    assert_eq!(notes(&tree), [""; 0]);
}

#[test]
fn alpine_boots_by_extlinux() {
    let tree = Tree::with(&[
        ("/boot/extlinux.conf", include_str!("configs/alpine.cfg")),
        ("/boot/vmlinuz-virt", "k"),
        ("/boot/initramfs-virt", "i"),
        ("/boot/vmlinuz-lts", "k"),
        ("/boot/initramfs-lts", "i"),
    ]);
    let virt = expected(
        "/boot/vmlinuz-virt",
        &["/boot/initramfs-virt"],
        "root=UUID=8888 modules=ext4 rootfstype=ext4",
    );
    assert_eq!(default(&tree), virt);
    let lts = entry(&tree, "lts");
    assert_eq!(lts.1, ["/boot/ucode.img", "/boot/initramfs-lts"]);
    assert_eq!(lts.2, "root=UUID=8888");
    assert_eq!(notes(&tree), [""; 0]);
    with_menu(tree, |_, menu| {
        assert_eq!((menu.timeout, menu.hidden), (Some(1), true));
    });
}

#[test]
fn an_installer_boots_by_isolinux() {
    let tree = Tree::with(&[
        (
            "/isolinux/isolinux.cfg",
            include_str!("configs/isolinux.cfg"),
        ),
        (
            "/isolinux/menu.cfg",
            include_str!("configs/isolinux-menu.cfg"),
        ),
        (
            "/isolinux/txt.cfg",
            include_str!("configs/isolinux-txt.cfg"),
        ),
        ("/install/vmlinuz", "k"),
        ("/install/initrd.gz", "i"),
    ]);
    let install = expected(
        "/install/vmlinuz",
        &["/install/initrd.gz"],
        "vga=788 --- quiet",
    );
    assert_eq!(default(&tree), install);
    assert_eq!(entry(&tree, "rescue").2, "vga=788 rescue/enable=true ---");
    assert_eq!(notes(&tree), [""; 0]);
    with_menu(tree, |machine, menu| {
        let titles: Vec<&str> = menu
            .entries
            .iter()
            .map(|entry| entry.title.as_str())
            .collect();
        assert_eq!(
            titles,
            ["Install", "Advanced options", "Boot from the disk"]
        );
        assert!(machine.open(&menu, 2).is_err());
    });
}

#[test]
fn grub_legacy_boots_hosts_and_guests() {
    let tree = Tree::with(&[
        ("/grub/menu.lst", include_str!("configs/legacy.cfg")),
        ("/vmlinuz-2.6.18", "k"),
        ("/initrd-2.6.18.img", "i"),
        ("/xen.gz", "x"),
        ("/vmlinuz-xen", "k"),
        ("/initrd-xen.img", "i"),
    ]);
    let host = expected(
        "/vmlinuz-xen",
        &["/initrd-xen.img"],
        "ro root=LABEL=/ console=hvc0",
    );
    assert_eq!(default(&tree), host);
    assert_eq!(entry(&tree, "0").0, "/vmlinuz-2.6.18");
    assert_eq!(notes(&tree), [""; 0]);
}

#[test]
fn what_cannot_be_booted_is_refused_by_name() {
    let mut lilo = Tree::with(&[("/etc/lilo.conf", "image=/vmlinuz\n")]);
    let mut machine = Machine::new(&mut lilo);
    let Err(Some(why)) = find::on_volume(&mut machine, 0) else {
        panic!("LILO is not refused");
    };
    assert!(why.contains("LILO"), "{why}");
    let tree = Tree::with(&[(
        "/boot/grub/grub.cfg",
        "menuentry w { chainloader +1; }\nmenuentry m { linux /missing; }\n",
    )]);
    with_menu(tree, |machine, menu| {
        let why = find::default(machine, &menu).expect_err("no Linux");
        assert!(why.contains("chainloader"), "{why}");
        let why = find::follow(machine, &menu, "m").expect_err("no kernel");
        assert!(why.contains("/missing: no such file"), "{why}");
    });
}

/// A file that gets an archive of its own beside the initial RAM disk.
#[test]
fn an_initial_ram_disk_by_newc_keeps_its_name_in_the_archive() {
    let config = "menuentry a { linux /k; initrd newc:etc/key:/keys/root /initrd; }\n\
                  menuentry b { linux /k; initrd newc:x:/missing; }\n";
    let files = [
        ("/boot/grub/grub.cfg", config),
        ("/k", "k"),
        ("/keys/root", "1"),
        ("/initrd", "i"),
    ];
    with_menu(Tree::with(&files), |machine, menu| {
        let boot = find::default(machine, &menu).expect("it boots");
        let names: Vec<_> = boot
            .initrds
            .iter()
            .map(|place| place.newc.as_deref())
            .collect();
        assert_eq!(names, [Some("etc/key"), None]);
        assert_eq!(booted(boot), expected("/k", &["/keys/root", "/initrd"], ""));
        assert!(find::entry(machine, &menu, "b").is_err());
    });
}

#[test]
fn scripts_that_do_not_end_are_left() {
    for config in [
        "while true; do set a=$a$a; done\n",
        "function f { f; }\nf\n",
        "source /boot/grub/grub.cfg\n",
        "configfile /boot/grub/grub.cfg\n",
        "set a=xxxxxxxxxxxxxxxx\nfor i in 1 2 3 4 5 6 7 8 9 a b c d e f g h i j k l m; do set a=\"$a$a\"; done\nmenuentry \"$a\" { linux /k $a $a; }\n",
        "menuentry a { configfile /boot/grub/grub.cfg; }\n",
        "submenu a { source /boot/grub/grub.cfg; }\n",
        "eval \"eval \\\"eval $x\\\"\"\nuntil false; do true; done",
    ] {
        let mut tree = Tree::with(&[("/boot/grub/grub.cfg", config), ("/k", "k")]);
        let mut machine = Machine::new(&mut tree);
        if let Ok(found) = find::on_volume(&mut machine, 0)
            && let Opened::Menu(menu) = found.opened
        {
            let _ = find::default(&mut machine, &menu);
            let _ = find::flatten(&mut machine, &menu);
        }
    }
}

#[test]
fn configurations_of_syslinux_that_lead_to_each_other_end() {
    let tree = Tree::with(&[(
        "/syslinux.cfg",
        "include syslinux.cfg\nlabel a\nconfig syslinux.cfg\nlabel b\nconfig /syslinux.cfg\n",
    )]);
    with_menu(tree, |machine, menu| {
        let _ = find::flatten(machine, &menu);
    });
}

/// Two systems in turn: the one of the higher priority, unless it has no tries left and never came up.
#[test]
fn flatcar_boots_the_system_of_the_highest_priority() {
    const CONFIG: &str = "gptprio.next -d usr -u usr_uuid\n\
        if [ \"$usr_uuid\" = 'a' ]; then set suf=-a; else set suf=-b; fi\n\
        menuentry 'Flatcar' --id=flatcar { linux /flatcar/vmlinuz$suf mount.usr=PARTUUID=$usr_uuid root=LABEL=ROOT }\n";
    let kernel = |a: u64, b: u64| {
        let mut tree = volume(
            "1",
            "",
            &[
                ("/boot/grub/grub.cfg", CONFIG),
                ("/flatcar/vmlinuz-a", "k"),
                ("/flatcar/vmlinuz-b", "k"),
            ],
        );
        for (number, uuid, attributes) in [(1, "a", a), (2, "b", b)] {
            tree.add(&[&format!("hd0,gpt{}", number + 2)], "", "", &[]);
            let info = tree.info_mut(number);
            info.partition_uuid = Some(uuid.to_owned());
            info.partition_type = Some("5DFBF5F4-2848-4BAC-AA5E-0D9A20B745A6".to_owned());
            info.attributes = attributes;
        }
        default(&tree).0
    };
    let of = |priority: u64, tries: u64, successful: u64| {
        priority << 48 | tries << 52 | successful << 56
    };
    assert_eq!(kernel(of(2, 0, 1), of(1, 0, 1)), "/flatcar/vmlinuz-a");
    assert_eq!(kernel(of(1, 0, 1), of(2, 1, 0)), "/flatcar/vmlinuz-b");
    assert_eq!(kernel(of(1, 0, 1), of(2, 0, 0)), "/flatcar/vmlinuz-a");
    assert_eq!(kernel(of(3, 0, 1), of(3, 0, 1)), "/flatcar/vmlinuz-a");
}
