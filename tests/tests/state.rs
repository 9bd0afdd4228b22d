//! What a service may not touch survives it: every register of the caller, whatever state the caller is in.

use anyhow::{Context, Result, ensure};
use firstlight_tests::disk::Disk;
use firstlight_tests::guest::{Accelerator, Config, Firmware, Guest, Log, Machine, accelerator};
use firstlight_tests::report::Report;
use firstlight_tests::script::{BUFFER, BUFFER_SEGMENT, Call, Caller, HIGH_SSE, Script};

/// A service, with the report fields its documentation lets it change.
type Service = (&'static str, fn() -> Call, &'static [&'static str]);

/// One good call of each family, and one that fails.
const SERVICES: &[Service] = &[
    ("int05", || Call::new(0x05, 0), &[]),
    ("int08", || Call::new(0x08, 0), &[]),
    (
        "int10.cursor",
        || Call::new(0x10, 0x0300).bx(0),
        &["ax", "cx", "dx"],
    ),
    ("int10.teletype", || Call::new(0x10, 0x0e41).bx(7), &["ax"]),
    ("int11", || Call::new(0x11, 0), &["ax"]),
    ("int12", || Call::new(0x12, 0), &["ax"]),
    ("int13.reset", || Call::new(0x13, 0).dx(0x80), &["ax"]),
    (
        "int13.parameters",
        || Call::new(0x13, 0x0800).dx(0x80),
        &["ax", "bx", "cx", "dx", "es", "di"],
    ),
    (
        "int13.read",
        || Call::new(0x13, 0x0201).cx(1).dx(0x80).bx(0x1000),
        &["ax"],
    ),
    (
        "int13.extended-read",
        || Call::new(0x13, 0x4200).dx(0x80).si(0),
        &["ax"],
    ),
    (
        "int13.absent",
        || Call::new(0x13, 0x0201).cx(1).dx(0x8f).bx(0),
        &["ax"],
    ),
    ("int14.status", || Call::new(0x14, 0x0300).dx(0), &["ax"]),
    ("int15.extended-memory", || Call::new(0x15, 0x8800), &["ax"]),
    (
        "int15.e801",
        || Call::new(0x15, 0xe801),
        &["ax", "bx", "cx", "dx"],
    ),
    (
        "int15.configuration",
        || Call::new(0x15, 0xc000),
        &["ax", "bx", "es"],
    ),
    (
        "int15.wait",
        || Call::new(0x15, 0x8600).cx(0).dx(2000),
        &["ax"],
    ),
    ("int15.a20", || Call::new(0x15, 0x2401), &["ax"]),
    (
        "int15.block-move",
        || Call::new(0x15, 0x8700).cx(16).si(0x800),
        &["ax"],
    ),
    ("int15.unknown", || Call::new(0x15, 0xff00), &["ax"]),
    ("int16.peek", || Call::new(0x16, 0x0100), &["ax"]),
    ("int16.flags", || Call::new(0x16, 0x0200), &["ax"]),
    ("int17.status", || Call::new(0x17, 0x0200).dx(0), &["ax"]),
    (
        "int1a.ticks",
        || Call::new(0x1a, 0x0000),
        &["ax", "cx", "dx"],
    ),
    (
        "int1a.time",
        || Call::new(0x1a, 0x0200),
        &["ax", "cx", "dx"],
    ),
    (
        "int1a.pci",
        || Call::new(0x1a, 0xb101),
        &["ax", "bx", "cx", "dx", "high-edx", "di", "high-edi"],
    ),
];

/// A way to make the same call from another state.
type Variation = (&'static str, fn(Call) -> Call);

const VARIATIONS: &[Variation] = &[
    ("plain", |call| call),
    ("carry", Call::carry),
    ("direction", Call::direction),
    ("interrupts-off", Call::interrupts_off),
    ("odd-stack", Call::odd_stack),
    ("a20-off", Call::a20_off),
    ("unreal", Call::unreal),
];

/// Pieces of a [`firstlight_tests::report::State`]: name, offset and length in bytes. The FXSAVE area's last
/// instruction and data pointers are left out, as processors may drop them, and its reserved end.
const STATE: &[(&str, usize, usize)] = &[
    ("x87 control", 0, 5),
    ("MXCSR", 24, 8),
    ("x87 and MMX registers", 32, 128),
    ("XMM0 to XMM7", 160, 128),
    ("CR0", 512, 4),
    ("CR2", 516, 4),
    ("CR3", 520, 4),
    ("CR4", 524, 4),
    ("EFER", 528, 8),
    ("GDTR", 536, 6),
    ("IDTR", 542, 6),
    ("DR0 to DR3", 548, 16),
    ("DR6", 564, 4),
    ("DR7", 568, 4),
    ("interrupt masks", 572, 2),
];

/// What the calls need in memory: a device address packet at the start of the buffer, a descriptor table at 0x800.
fn prepare(script: &mut Script) {
    let mut packet = vec![16, 0, 2, 0, 0, 0x10];
    packet.extend(BUFFER_SEGMENT.to_le_bytes());
    packet.extend(1024u64.to_le_bytes());
    script.poke(BUFFER, &packet);
    let mut table = vec![0; 16];
    table.extend([0xff, 0xff, 0, 0x20, 4, 0x93, 0, 0]);
    table.extend([0xff, 0xff, 0, 0x30, 4, 0x93, 0, 0]);
    table.extend([0; 16]);
    script.poke(BUFFER + 0x800, &table);
}

fn start(machine: Machine, firmware: Firmware, script: &Script) -> Result<(Disk, Guest)> {
    let disk = Disk::running(script, 16 << 20)?;
    let guest = Config::new(machine, firmware)
        .deadline_seconds(90)
        .disk(&disk.path())
        .start()?;
    Ok((disk, guest))
}

fn run(machine: Machine, firmware: Firmware, script: &Script) -> Result<Report> {
    let (_disk, mut guest) = start(machine, firmware, script)?;
    let log = guest.wait_for(Log::Debug, "~E\n")?;
    Report::parse(script, &log)
}

/// Fields of call `name` that changed though they must not.
fn changed_fields(report: &Report, name: &str, allowed: &[&str]) -> Vec<String> {
    report
        .fields
        .iter()
        .filter_map(|(field, value)| {
            let register = field.strip_prefix(name)?.strip_prefix('.')?;
            let fine = ["cf", "zf"].contains(&register) || allowed.contains(&register);
            (!fine).then(|| format!("{name} changed {register} to {value}"))
        })
        .collect()
}

fn changed_state(report: &Report, name: &str) -> Result<Vec<String>> {
    let (before, after) = report
        .states
        .get(name)
        .with_context(|| format!("no state for {name}"))?;
    let mut changes = Vec::new();
    for &(what, at, length) in STATE {
        let (before, after) = (&before[at..at + length], &after[at..at + length]);
        if before != after {
            changes.push(format!(
                "{name} changed {what}: {before:02x?} to {after:02x?}"
            ));
        }
    }
    Ok(changes)
}

fn all_state_survives(machine: Machine, firmware: Firmware) -> Result<()> {
    let mut script = Script::new();
    prepare(&mut script);
    script.fill_high_sse();
    for (name, call, _) in SERVICES {
        script.call(name, call().full_state());
    }
    script.read_high_sse("sse-high");
    let report = run(machine, firmware, &script)?;
    let mut problems = Vec::new();
    for (name, _, allowed) in SERVICES {
        problems.extend(changed_fields(&report, name, allowed));
        problems.extend(changed_state(&report, name)?);
    }
    if report.dumps["sse-high"] != HIGH_SSE {
        problems.push("a service changed XMM8 to XMM15".to_owned());
    }
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}

fn every_caller_is_served(machine: Machine, firmware: Firmware) -> Result<()> {
    let mut script = Script::new();
    prepare(&mut script);
    for (variation, vary) in VARIATIONS {
        for (name, call, _) in SERVICES {
            // This service exists to change what the variation checks.
            if (*variation, *name) != ("a20-off", "int15.a20") {
                script.call(&format!("{variation}.{name}"), vary(call()));
            }
        }
    }
    let report = run(machine, firmware, &script)?;
    let mut problems = Vec::new();
    for (variation, _) in VARIATIONS {
        for (name, _, allowed) in SERVICES {
            let mut allowed = allowed.to_vec();
            if accelerator() == Accelerator::Kvm {
                // KVM has no line A20: memory does not wrap around, whatever the gate says.
                allowed.push("a20-before");
            }
            problems.extend(changed_fields(
                &report,
                &format!("{variation}.{name}"),
                &allowed,
            ));
        }
    }
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}

/// The segment limits cannot be read in real mode; QEMU's monitor shows them once the script stopped.
fn unreal_limits_survive(machine: Machine, firmware: Firmware) -> Result<()> {
    let mut script = Script::new();
    prepare(&mut script);
    for (name, call, _) in SERVICES {
        script.call(name, call().unreal());
    }
    script.halt();
    let (_disk, mut guest) = start(machine, firmware, &script)?;
    guest.wait_for(Log::Debug, "~H\n")?;
    let registers = guest.monitor("info registers")?;
    for segment in ["DS", "ES", "FS", "GS"] {
        let line = registers
            .lines()
            .find(|line| line.starts_with(&format!("{segment} =")))
            .with_context(|| format!("no {segment} in {registers}"))?;
        ensure!(
            line.contains(" ffffffff "),
            "the 4 GiB limit is gone: {line}"
        );
    }
    Ok(())
}

/// Services whose answers do not depend on where a caller's segments are.
const WITHOUT_SEGMENTS: [&str; 5] = ["int11", "int12", "int16.peek", "int16.flags", "int1a.ticks"];

/// What `report` has of the service `name` for the callers of `mode`: how it ended, CF and AX.
fn answer(report: &Report, mode: &str, name: &str) -> [String; 3] {
    ["call", "cf", "ax"].map(|field| {
        let value = report.value(&format!("{mode}.{name}.{field}"));
        value.unwrap_or_default().to_string()
    })
}

/// Callers in virtual-8086 and 16-bit protected mode, whose interrupts are held back, so that nothing waits. With system management
/// mode the former get what real mode gets; without it an error, but for what 16-bit code does.
fn protected_callers_are_answered(machine: Machine, smm: &str) -> Result<()> {
    const LEFT_OUT: [&str; 5] = [
        "int05",
        "int08",
        "int10.cursor",
        "int10.teletype",
        "int15.wait",
    ];
    let callers = [
        ("real", Caller::Real),
        ("v86", Caller::V86),
        ("protected-16", Caller::Protected16),
    ];
    let called = || {
        SERVICES
            .iter()
            .filter(|(name, _, _)| !LEFT_OUT.contains(name))
    };
    let mut script = Script::new();
    prepare(&mut script);
    for (mode, caller) in callers {
        for (name, call, _) in called() {
            script.call(&format!("{mode}.{name}"), call().from(caller));
        }
    }
    script.call("after", Call::new(0x12, 0));
    let disk = Disk::running(&script, 16 << 20)?;
    let mut guest = Config::new(machine, Firmware::Firstlight)
        .deadline_seconds(90)
        .args(["-machine", &format!("smm={smm}")])
        .disk(&disk.path())
        .start()?;
    let report = Report::parse(&script, &guest.wait_for(Log::Debug, "~E\n")?)?;
    let mut problems = Vec::new();
    for (mode, _) in &callers[1..] {
        for (name, _, _) in called() {
            let [how, carry, ax] = answer(&report, mode, name);
            let as_real = answer(&report, "real", name)[1..] == [carry.clone(), ax.clone()];
            let right = match smm {
                "on" => as_real || *mode != "v86",
                _ if WITHOUT_SEGMENTS.contains(name) => as_real,
                _ => carry == "1",
            };
            if how != "returned" || !right {
                problems.push(format!("{mode}.{name}: {how}, CF {carry}, AX {ax}"));
            }
        }
    }
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    ensure!(
        report.value("after.cf")? == "0",
        "real mode is not served afterwards"
    );
    Ok(())
}

#[test]
fn pc_services_keep_all_state() -> Result<()> {
    all_state_survives(Machine::Pc, Firmware::Firstlight)
}

#[test]
fn q35_services_keep_all_state() -> Result<()> {
    all_state_survives(Machine::Q35, Firmware::Firstlight)
}

#[test]
fn callers_in_any_state_are_served() -> Result<()> {
    every_caller_is_served(Machine::Pc, Firmware::Firstlight)
}

#[test]
fn unreal_mode_survives_services() -> Result<()> {
    unreal_limits_survive(Machine::Pc, Firmware::Firstlight)
}

#[test]
fn protected_mode_callers_are_served() -> Result<()> {
    for machine in Machine::ALL {
        protected_callers_are_answered(machine, "on")?;
    }
    Ok(())
}

#[test]
fn callers_in_16_bit_protected_mode_are_served() -> Result<()> {
    let mut script = Script::new();
    prepare(&mut script);
    let called = || {
        let all = SERVICES.iter();
        all.filter(|(name, _, _)| WITHOUT_SEGMENTS.contains(name))
    };
    for (mode, caller) in [
        ("real", Caller::Real),
        ("protected-16", Caller::Protected16),
    ] {
        for (name, call, _) in called() {
            script.call(&format!("{mode}.{name}"), call().from(caller));
        }
    }
    for machine in Machine::ALL {
        let report = run(machine, Firmware::Firstlight, &script)?;
        for (name, _, _) in called() {
            let [_, carry, ax] = answer(&report, "real", name);
            let protected = answer(&report, "protected-16", name);
            ensure!(
                protected == ["returned".to_owned(), carry.clone(), ax.clone()],
                "{machine} {name}: {protected:?}, from real mode CF {carry}, AX {ax}"
            );
        }
    }
    Ok(())
}

#[test]
fn protected_mode_callers_get_an_error_without_a_way_in() -> Result<()> {
    protected_callers_are_answered(Machine::Pc, "off")
}

/// The keyboard's interrupt has its key in the buffer where its caller in 16-bit protected mode has the BIOS data area at selector 40h.
#[test]
fn keys_come_in_16_bit_protected_mode_without_a_way_in() -> Result<()> {
    const MASK: u16 = 0x21;
    const KEYBOARD_MASKED: u32 = 0xba;
    const A: u32 = 0x1e;
    let mut script = Script::new();
    script.write_port(MASK, 1, KEYBOARD_MASKED);
    for byte in [A, A | 0x80] {
        // The controller takes the byte for the keyboard's.
        script.write_port(0x64, 1, 0xd2);
        script.write_port(0x60, 1, byte);
        let interrupt = Call::new(0x09, 0).from(Caller::Protected16);
        script.call(&format!("interrupt-{byte:02x}"), interrupt);
    }
    script.call("key", Call::new(0x16, 0x0100));
    let disk = Disk::running(&script, 16 << 20)?;
    let mut guest = Config::new(Machine::Pc, Firmware::Firstlight)
        .args(["-machine", "smm=off"])
        .disk(&disk.path())
        .start()?;
    let report = Report::parse(&script, &guest.wait_for(Log::Debug, "~E\n")?)?;
    ensure!(report.value("key.ax")? == "1e61", "{report:?}");
    Ok(())
}

/// The checks themselves are sound: SeaBIOS passes those that it is known to keep.
#[test]
fn seabios_serves_callers_in_any_state() -> Result<()> {
    every_caller_is_served(Machine::Pc, Firmware::SeaBios)
}
