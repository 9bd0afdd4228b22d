//! What the DSDT needs on top of the acpi_tables crate: encoded pieces that can be put together, and the operators and
//! descriptors the crate leaves out. Encodings: ACPI specification 6.5, chapters 20 (AML) and 6.4 (resources).

use alloc::vec::Vec;

use acpi_tables::aml::{IO, Path, ResourceTemplate};
use acpi_tables::{Aml, AmlSink};

/// Encoded AML.
#[derive(Clone, Debug, Default)]
pub struct Code(pub Vec<u8>);

impl Aml for Code {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(&self.0);
    }
}

/// The encodings of `items` one after another.
pub fn code(items: &[&dyn Aml]) -> Code {
    let mut bytes = Vec::with_capacity(64);
    for item in items {
        item.to_aml_bytes(&mut bytes);
    }
    Code(bytes)
}

/// An operator and its operands; a target of 0 says that the result is only a value.
fn operator(opcode: &[u8], operands: &[&dyn Aml]) -> Code {
    let mut bytes = opcode.to_vec();
    for operand in operands {
        operand.to_aml_bytes(&mut bytes);
    }
    Code(bytes)
}

/// A path of four-letter names.
pub fn path(name: &str) -> Path {
    Path::new(name)
}

/// `a & b`
pub fn and(a: &dyn Aml, b: &dyn Aml) -> Code {
    operator(&[0x7b], &[a, b, &0u8])
}

/// `a | b`
pub fn or(a: &dyn Aml, b: &dyn Aml) -> Code {
    operator(&[0x7d], &[a, b, &0u8])
}

/// `a << b`
pub fn shift_left(a: &dyn Aml, b: &dyn Aml) -> Code {
    operator(&[0x79], &[a, b, &0u8])
}

/// `a >> b`
pub fn shift_right(a: &dyn Aml, b: &dyn Aml) -> Code {
    operator(&[0x7a], &[a, b, &0u8])
}

/// `array[index]`, as a place to store to.
pub fn element(array: &dyn Aml, index: &dyn Aml) -> Code {
    operator(&[0x88], &[array, index, &0u8])
}

/// The value of `array[index]`.
pub fn value_at(array: &dyn Aml, index: &dyn Aml) -> Code {
    operator(&[0x83], &[&element(array, index)])
}

/// `value++`
pub fn increment(value: &dyn Aml) -> Code {
    operator(&[0x75], &[value])
}

/// `value--`
pub fn decrement(value: &dyn Aml) -> Code {
    operator(&[0x76], &[value])
}

/// Stores the number of the lowest set bit of `source`, counted from 1, in `target`.
pub fn find_set_right_bit(source: &dyn Aml, target: &dyn Aml) -> Code {
    operator(&[0x82], &[source, target])
}

/// Makes `name` the 16 bits at byte `offset` of `buffer`.
pub fn create_word_field(buffer: &dyn Aml, offset: u8, name: &str) -> Code {
    operator(&[0x8b], &[buffer, &offset, &path(name)])
}

/// A processor object, which systems before ACPI 6 need to see a processor at all. `id` is the one in the MADT.
pub fn processor(name: &str, id: u8, children: &[&dyn Aml]) -> Code {
    let mut body = code(&[&path(name)]).0;
    // No processor block.
    body.extend_from_slice(&[id, 0, 0, 0, 0, 0]);
    for child in children {
        child.to_aml_bytes(&mut body);
    }
    // The length counts its own two or three bytes; it has four bits in the first and eight in each of the others.
    let (size, first) = match body.len() {
        short @ 0..0xffe => (short + 2, 0x40),
        long => (long + 3, 0x80),
    };
    let mut bytes = Vec::with_capacity(body.len() + 5);
    bytes.extend_from_slice(&[0x5b, 0x83, first | (size & 15) as u8, (size >> 4) as u8]);
    if first == 0x80 {
        bytes.push((size >> 12) as u8);
    }
    bytes.append(&mut body);
    Code(bytes)
}

/// A resource: ISA interrupts as edge-triggered, active high, unshared.
pub fn irq(number: u8) -> Code {
    let [low, high] = (1u16 << (number & 15)).to_le_bytes();
    Code([0x22, low, high].to_vec())
}

/// A resource: any of the ISA interrupts in `mask`, level-triggered, active low, shared.
pub fn pci_irqs(mask: u16) -> Code {
    let [low, high] = mask.to_le_bytes();
    Code([0x23, low, high, 0x18].to_vec())
}

/// A resource: an 8-bit ISA DMA channel; `bus_master` for the one that cascades the controllers.
pub fn dma(channel: u8, bus_master: bool) -> Code {
    Code([0x2a, 1 << (channel & 7), u8::from(bus_master) << 2].to_vec())
}

/// A resource: `length` I/O ports from `first`.
pub fn ports(first: u16, length: u8) -> IO {
    IO::new(first, first, 1, length)
}

/// A resource template.
pub fn resources(items: &[&dyn Aml]) -> Code {
    code(&[&ResourceTemplate::new(items.to_vec())])
}
