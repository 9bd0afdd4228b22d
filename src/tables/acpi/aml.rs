//! What the DSDT needs on top of the acpi_tables crate: encoded pieces that can be put together, and the operators and
//! descriptors the crate leaves out. Encodings: ACPI specification 6.5, chapters 20 (AML) and 6.4 (resources).

use alloc::vec::Vec;

use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, BufferData, Device, EISAName, Else, Equal, Field,
    FieldAccessType, FieldEntry, FieldLockRule, FieldUpdateRule, IO, If, LessThan, Method,
    MethodCall, Name, NotEqual, Notify, OpRegion, OpRegionSpace, Package, Path, ResourceTemplate,
    Return, Scope, Store, While,
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

/// The encodings of `items` one after another.
#[inline(never)]
pub fn code(items: &[&dyn Aml]) -> Code {
    let mut bytes = Vec::with_capacity(64);
    for item in items {
        item.to_aml_bytes(&mut bytes);
    }
    Code(bytes)
}

/// A path of four-letter names.
#[inline(never)]
pub fn path(name: &str) -> Path {
    Path::new(name)
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
    /// A name and its value.
    name(at: &str, value: &dyn Aml) = Name::new(path(at), value);
    /// A device.
    object(at: &str, children: &[&dyn Aml]) = Device::new(path(at), children.to_vec());
    /// What is put into an object that exists.
    scope(at: &str, children: &[&dyn Aml]) = Scope::new(path(at), children.to_vec());
    /// A method.
    method(at: &str, arguments: u8, serialized: bool, body: &[&dyn Aml]) =
        Method::new(path(at), arguments, serialized, body.to_vec());
    /// A method's call.
    call(at: &str, arguments: &[&dyn Aml]) = MethodCall::new(path(at), arguments.to_vec());
    /// Ends a method with a value.
    give(value: &dyn Aml) = Return::new(value);
    /// Runs `then` where `condition` is not 0.
    when(condition: &dyn Aml, then: &[&dyn Aml]) = If::new(condition, then.to_vec());
    /// Follows [`when`], for where its condition is 0.
    otherwise(then: &[&dyn Aml]) = Else::new(then.to_vec());
    /// Runs `body` as long as `condition` is not 0.
    repeat_while(condition: &dyn Aml, body: &[&dyn Aml]) = While::new(condition, body.to_vec());
    /// Stores `value` in `target`.
    store(target: &dyn Aml, value: &dyn Aml) = Store::new(target, value);
    /// Tells the system of an event at an object.
    notify(object: &dyn Aml, event: &dyn Aml) = Notify::new(object, event);
    /// A package.
    package(items: &[&dyn Aml]) = Package::new(items.to_vec());
    /// A compressed EISA ID.
    eisa(id: &str) = EISAName::new(id);
    /// A buffer.
    buffer(bytes: &[u8]) = BufferData::new(bytes.to_vec());
    /// `a == b`
    equal(a: &dyn Aml, b: &dyn Aml) = Equal::new(a, b);
    /// `a != b`
    not_equal(a: &dyn Aml, b: &dyn Aml) = NotEqual::new(a, b);
    /// `a < b`
    less(a: &dyn Aml, b: &dyn Aml) = LessThan::new(a, b);
    /// An address space that fields lie in.
    region(at: &str, space: OpRegionSpace, start: &dyn Aml, size: &dyn Aml) =
        OpRegion::new(path(at), space, start, size);
    /// Fields of a region: bytes that keep the bits around them, or 32-bit words that are zero around them.
    fields(region: &str, words: bool, entries: &[FieldEntry]) = Field::new(
        path(region),
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

/// An operator and its operands; a target of 0 says that the result is only a value.
#[inline(never)]
fn operator(opcode: &[u8], operands: &[&dyn Aml]) -> Code {
    let mut bytes = opcode.to_vec();
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
