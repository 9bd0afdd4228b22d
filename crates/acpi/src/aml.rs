//! What the DSDT needs on top of the acpi_tables crate: encoded pieces that can be put together, and the operators and
//! descriptors the crate leaves out. Encodings: ACPI specification 6.5, chapters 20 (AML) and 6.4 (resources).

use alloc::vec::Vec;

use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, BufferData, EISAName, Field, FieldAccessType, FieldEntry,
    FieldLockRule, FieldUpdateRule, IO, OpRegion, OpRegionSpace, ResourceTemplate,
};
use acpi_tables::{Aml, AmlSink};

/// Encoded AML.
#[derive(Clone, Debug, Default)]
pub struct Code(pub Vec<u8>);

impl Aml for Code {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(&self.0);
    }
}

/// Bytes that are encoded already.
struct Raw<'a>(&'a [u8]);

impl Aml for Raw<'_> {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(self.0);
    }
}

/// The encodings of `items` one after another.
#[inline(never)]
pub fn code(items: &[&dyn Aml]) -> Code {
    operator(&[], items)
}

/// A path of four-letter names, such as `\\_SB_.PCI0`.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a>(&'a str);

impl Aml for Path<'_> {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        const DUAL: u8 = 0x2e;
        const MULTI: u8 = 0x2f;
        let names = self.0.strip_prefix('\\').inspect(|_| sink.byte(b'\\'));
        let names = names.unwrap_or(self.0).as_bytes();
        // A dot comes between two names.
        match names.len() / 5 {
            0 => {}
            1 => sink.byte(DUAL),
            more => sink.vec(&[MULTI, more as u8 + 1]),
        }
        for name in names.chunks(5) {
            sink.vec(&name[..name.len().min(4)]);
        }
    }
}

/// A path of four-letter names.
pub fn path(name: &str) -> Path<'_> {
    Path(name)
}

/// Makes functions that encode what a constructor of the crate makes, so that there is one copy of each in the ROM.
macro_rules! encoders {
    ($($(#[$about:meta])* $name:ident($($argument:ident: $type:ty),*) = $value:expr;)*) => {$(
        $(#[$about])*
        #[inline(never)]
        pub fn $name($($argument: $type),*) -> Code {
            code(&[&$value])
        }
    )*};
}

encoders! {
    /// A compressed EISA ID.
    eisa(id: &str) = EISAName::new(id);
    /// A buffer.
    buffer(bytes: &[u8]) = BufferData::new(bytes.to_vec());
    /// An address space that fields lie in.
    region(at: &str, space: OpRegionSpace, start: &dyn Aml, size: &dyn Aml) =
        OpRegion::new(at.into(), space, start, size);
    /// Fields of a region: bytes that keep the bits around them, or 32-bit words that are zero around them.
    fields(region: &str, words: bool, entries: &[FieldEntry]) = Field::new(
        region.into(),
        if words { FieldAccessType::DWord } else { FieldAccessType::Byte },
        FieldLockRule::NoLock,
        if words { FieldUpdateRule::WriteAsZeroes } else { FieldUpdateRule::Preserve },
        entries.to_vec(),
    );
    /// A resource: memory that PCI devices may have, up to and with `last`.
    memory_32(cache: AddressSpaceCacheable, first: u32, last: u32) =
        AddressSpace::<u32>::new_memory(cache, true, first, last, None);
    /// A resource: memory that PCI devices may have above 4 GiB, up to and with `last`.
    memory_64(cache: AddressSpaceCacheable, first: u64, last: u64) =
        AddressSpace::<u64>::new_memory(cache, true, first, last, None);
    /// A resource: I/O ports that PCI devices may have, up to and with `last`.
    io_window(first: u16, last: u16) = AddressSpace::<u16>::new_io(first, last, None);
    /// A resource: `length` I/O ports from `first`.
    ports(first: u16, length: u8) = IO::new(first, first, 1, length);
    /// A resource template.
    resources(items: &[&dyn Aml]) = ResourceTemplate::new(items.to_vec());
}

/// Adds to `bytes` a block: its opcode, its length, and what it holds.
///
/// The crate's own types encode each part to a piece of memory of its own, and those to the whole: for the thousands of parts of a
/// DSDT that is most of what its making costs.
#[inline(never)]
fn add_block(bytes: &mut Vec<u8>, opcode: &[u8], head: &[&dyn Aml], rest: &[&dyn Aml]) {
    /// The longest encoding of a length.
    const ROOM: usize = 4;
    bytes.extend_from_slice(opcode);
    let at = bytes.len();
    bytes.extend_from_slice(&[0; ROOM]);
    for item in head.iter().chain(rest) {
        item.to_aml_bytes(bytes);
    }
    let content = bytes.len() - at - ROOM;
    // A length counts its own bytes. It has six bits in one byte, or four in the first and eight in each of the others.
    let count = match content {
        0..=0x3e => 1,
        0x3f..=0xffd => 2,
        0xffe..=0xf_fffc => 3,
        _ => 4,
    };
    let size = content + count;
    if count == 1 {
        bytes[at] = size as u8;
    } else {
        bytes[at] = (count as u8 - 1) << 6 | (size & 15) as u8;
        for byte in 1..count {
            bytes[at + byte] = (size >> (8 * byte - 4)) as u8;
        }
    }
    bytes.copy_within(at + ROOM.., at + count);
    bytes.truncate(at + size);
}

#[inline(never)]
fn block(opcode: &[u8], head: &[&dyn Aml], rest: &[&dyn Aml]) -> Code {
    let mut bytes = Vec::with_capacity(128);
    add_block(&mut bytes, opcode, head, rest);
    Code(bytes)
}

/// A name and its value.
pub fn name(at: &str, value: &dyn Aml) -> Code {
    operator(&[0x08], &[&path(at), value])
}

/// A device.
pub fn object(at: &str, children: &[&dyn Aml]) -> Code {
    block(&[0x5b, 0x82], &[&path(at)], children)
}

/// What is put into an object that exists.
pub fn scope(at: &str, children: &[&dyn Aml]) -> Code {
    block(&[0x10], &[&path(at)], children)
}

/// A method.
pub fn method(at: &str, arguments: u8, serialized: bool, body: &[&dyn Aml]) -> Code {
    let flags = arguments & 7 | u8::from(serialized) << 3;
    block(&[0x14], &[&path(at), &Raw(&[flags])], body)
}

/// A method's call.
pub fn call(at: &str, arguments: &[&dyn Aml]) -> Code {
    let mut call = code(&[&path(at)]);
    for argument in arguments {
        argument.to_aml_bytes(&mut call.0);
    }
    call
}

/// Ends a method with a value.
pub fn give(value: &dyn Aml) -> Code {
    operator(&[0xa4], &[value])
}

/// Runs `then` where `condition` is not 0.
pub fn when(condition: &dyn Aml, then: &[&dyn Aml]) -> Code {
    block(&[0xa0], &[condition], then)
}

/// Follows [`when`], for where its condition is 0.
pub fn otherwise(then: &[&dyn Aml]) -> Code {
    block(&[0xa1], &[], then)
}

/// Runs `body` as long as `condition` is not 0.
pub fn repeat_while(condition: &dyn Aml, body: &[&dyn Aml]) -> Code {
    block(&[0xa2], &[condition], body)
}

/// Stores `value` in `target`.
pub fn store(target: &dyn Aml, value: &dyn Aml) -> Code {
    operator(&[0x70], &[value, target])
}

/// Tells the system of an event at an object.
pub fn notify(object: &dyn Aml, event: &dyn Aml) -> Code {
    operator(&[0x86], &[object, event])
}

/// A package of fewer than 256 items.
pub fn package(items: &[&dyn Aml]) -> Code {
    block(&[0x12], &[&Raw(&[items.len() as u8])], items)
}

/// A package that is made item by item.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    count: u8,
    bytes: Vec<u8>,
}

impl Rows {
    /// Adds a package of fewer than 256 items; there may be 255 of them.
    pub fn add(&mut self, items: &[&dyn Aml]) {
        add_block(
            &mut self.bytes,
            &[0x12],
            &[&Raw(&[items.len() as u8])],
            items,
        );
        self.count += 1;
    }

    /// The package of all that was added.
    pub fn finish(self) -> Code {
        block(&[0x12], &[&Raw(&[self.count])], &[&Raw(&self.bytes)])
    }
}

/// `a == b`
pub fn equal(a: &dyn Aml, b: &dyn Aml) -> Code {
    operator(&[0x93], &[a, b])
}

/// `a != b`
pub fn not_equal(a: &dyn Aml, b: &dyn Aml) -> Code {
    operator(&[0x92, 0x93], &[a, b])
}

/// `a < b`
pub fn less(a: &dyn Aml, b: &dyn Aml) -> Code {
    operator(&[0x95], &[a, b])
}

/// An operator and its operands; a target of 0 says that the result is only a value.
#[inline(never)]
fn operator(opcode: &[u8], operands: &[&dyn Aml]) -> Code {
    let mut bytes = Vec::with_capacity(64);
    bytes.extend_from_slice(opcode);
    for operand in operands {
        operand.to_aml_bytes(&mut bytes);
    }
    Code(bytes)
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
    // No processor block.
    let block_of_ports = [id, 0, 0, 0, 0, 0];
    block(
        &[0x5b, 0x83],
        &[&path(name), &Raw(&block_of_ports)],
        children,
    )
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
