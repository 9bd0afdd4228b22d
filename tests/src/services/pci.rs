//! PCI BIOS: INT 1Ah AH=B1h, and the 32-bit entry found through the BIOS32 service directory.

use crate::script::Register::{Eax, Ebx, Ecx, Edi, Edx, Esi};
use crate::script::{BUFFER, Call, Caller, Script, View};

fn pci(al: u8) -> Call {
    Call::new(0x1a, 0xb100 | u16::from(al)).carry()
}

/// The real-mode services.
pub fn services(script: &mut Script) {
    let installed = pci(0x01).set(Edi, 0).hide(&["di", "high-edi"]);
    script.call("int1a.b101", installed);
    let find = |vendor, device, index| pci(0x02).dx(vendor).cx(device).si(index);
    script.call("int1a.b102.vga", find(0x1234, 0x1111, 0));
    script.call("int1a.b102.second", find(0x1234, 0x1111, 1));
    script.call("int1a.b102.none", find(0x1234, 0xeeee, 0));
    script.call("int1a.b102.bad-vendor", find(0xffff, 0x1111, 0));
    for (name, class) in [
        ("host", 0x06_0000),
        ("vga", 0x03_0000),
        ("ide", 0x01_0180),
        ("none", 0xee_eeee),
    ] {
        script.call(
            &format!("int1a.b103.{name}"),
            pci(0x03).set(Ecx, class).si(0),
        );
    }
    let at = |al, bx, register| pci(al).bx(bx).di(register);
    for (name, bx) in [("host", 0x0000), ("absent", 0x00f8), ("no-bus", 0x8000)] {
        script.call(&format!("int1a.b108.{name}"), at(0x08, bx, 0x0e));
        script.call(&format!("int1a.b109.{name}"), at(0x09, bx, 0x00));
        script.call(&format!("int1a.b10a.{name}"), at(0x0a, bx, 0x08));
    }
    script.call("int1a.b108.bad", at(0x08, 0, 0x100));
    script.call("int1a.b109.odd", at(0x09, 0, 0x01));
    script.call("int1a.b109.bad", at(0x09, 0, 0x100));
    script.call("int1a.b10a.odd", at(0x0a, 0, 0x02));
    script.call("int1a.b10a.bad", at(0x0a, 0, 0xfffc));
    script.call("int1a.b102.vga-again", find(0x1234, 0x1111, 0));
    vga_writes(script);
    script.call("int1a.b106", pci(0x06).bx(0).set(Edx, 0));
    script.call("int1a.b107", pci(0x07));
    script.poke(BUFFER, &[0, 0, 0, 2, 0, 0x40]);
    script.call("int1a.b10e.no-room", pci(0x0e).set(Ebx, 0).set(Edi, 0));
    script.poke(BUFFER, &[0, 8, 0, 2, 0, 0x40]);
    script.call("int1a.b10e", pci(0x0e).bx(0).di(0));
    script.dump("int1a.b10e.table", BUFFER, 2, View::Bytes);
    script.dump("int1a.b10e.slots", BUFFER + 0x200, 96, View::Bytes);
    script.call("int1a.b10f", pci(0x0f).bx(0x0008).cx(0x0a0a));
    script.call("int1a.b1-unknown", pci(0x7f));
    script.call("int1a.b181", pci(0x81).set(Edi, 0));
    script.call("int1a.b188", pci(0x88).bx(0).di(0x0e));
}

/// Writes the interrupt line register of the function 00:02.0 and puts it back, then writes where nothing may be.
fn vga_writes(script: &mut Script) {
    let at = |al, register| pci(al).bx(0x0010).di(register);
    script.call("int1a.b10b", at(0x0b, 0x3c).set(Ecx, 0xc1c2_c355));
    script.call("int1a.b108.written", at(0x08, 0x3c));
    script.call("int1a.b10c", at(0x0c, 0x3c).cx(0x00aa));
    script.call("int1a.b109.written", at(0x09, 0x3c));
    script.call("int1a.b10d", at(0x0d, 0x3c).set(Ecx, 0));
    script.call("int1a.b10a.written", at(0x0a, 0x3c));
    script.call("int1a.b10b.bad", at(0x0b, 0x1000).cx(0));
    script.call("int1a.b10c.odd", at(0x0c, 0x3d).cx(0));
    script.call("int1a.b10d.odd", at(0x0d, 0x3e).cx(0));
}

/// The same from 32-bit flat protected mode.
pub fn protected_mode(script: &mut Script) {
    script.scan("bios32.scan", 0xe_0000..0x10_0000, 16, b"_32_");
    let directory = |service: u32| {
        Call::new(0, 0)
            .from(Caller::Entry32)
            .set(Eax, service)
            .set(Ebx, 0)
            .hide(&["cf", "zf"])
    };
    let unknown = u32::from_le_bytes(*b"_NO_");
    script.call(
        "bios32.unknown",
        directory(unknown).hide(&["bx", "high-ebx"]),
    );
    script.call(
        "bios32.bad-selector",
        directory(unknown).set(Ebx, 1).hide(&["bx", "high-ebx"]),
    );
    let pci_service = u32::from_le_bytes(*b"$PCI");
    let varying = ["bx", "high-ebx", "cx", "high-ecx", "dx", "high-edx"];
    script.call("bios32.pci", directory(pci_service).hide(&varying));
    // Of the flags, PCI BIOS defines CF alone.
    let pci = |al: u8| {
        Call::new(0, 0xb100 | u16::from(al))
            .from(Caller::Service32)
            .hide(&["zf"])
    };
    script.call("pci32.01", pci(0x01).set(Edi, 0).hide(&["di", "high-edi"]));
    script.call("pci32.02", pci(0x02).dx(0x1234).cx(0x1111).set(Esi, 0));
    script.call("pci32.02.none", pci(0x02).dx(0x1234).cx(0xeeee).set(Esi, 0));
    script.call("pci32.03", pci(0x03).set(Ecx, 0x06_0000).set(Esi, 0));
    for (name, register) in [("first", 0), ("bad", 0x1003)] {
        for al in 0x08..=0x0a {
            let call = pci(al).bx(0).set(Edi, register);
            script.call(&format!("pci32.{al:02x}.{name}"), call);
        }
    }
    script.call("pci32.unknown", pci(0x7f));
}
