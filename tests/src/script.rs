//! Scripts of BIOS calls for `guest/executor.s`, built on the host and run inside the guest.
//!
//! Each operation here is one operation there; the record layouts are described beside its `op_` routines.

use std::fmt::Write;

/// Linear address of the buffers calls may use, 128 KiB; the default DS and ES point here.
pub const BUFFER: u32 = 0x4_0000;
/// [`BUFFER`] as a real-mode segment.
pub const BUFFER_SEGMENT: u16 = 0x4000;
/// Segment of the stack that calls are made on.
pub const STACK_SEGMENT: u16 = 0x6000;
/// SP at the call, before the INT instruction pushes.
pub const STACK_POINTER: u32 = 0x8000;

/// EFLAGS at a call: interrupts on, bit 1 as always.
const DEFAULT_EFLAGS: u32 = 0x202;
/// EFLAGS' direction flag.
const DIRECTION: u32 = 0x400;
/// EFLAGS' interrupt flag.
const INTERRUPT: u32 = 0x200;

/// The state of the machine at a call that is not the usual one. Values: `CALL_` in `guest/executor.s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variation {
    FullState = 1,
    A20Off = 2,
    Unreal = 4,
}

/// The mode a call is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Real mode, by an INT instruction.
    Real,
    /// Virtual-8086 mode, by a far call to the vector.
    V86,
    /// 16-bit protected mode, by a far call through a selector with the vector's base.
    Protected16,
    /// 32-bit flat protected mode, by a far call to the entry point in the structure the last scan found.
    Entry32,
    /// 32-bit flat protected mode, by a far call to the service the last [`Caller::Entry32`] call returned.
    Service32,
}

/// A register of [`Call`], by its 32-bit name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// The accumulator.
    Eax,
    /// The base register.
    Ebx,
    /// The counter.
    Ecx,
    /// The data register.
    Edx,
    /// The source index.
    Esi,
    /// The destination index.
    Edi,
    /// The base pointer.
    Ebp,
}

/// One call of a service: everything the caller has in its registers.
#[derive(Clone, Debug)]
pub struct Call {
    /// The interrupt, if the caller uses one.
    pub interrupt: u8,
    /// The caller's mode.
    pub caller: Caller,
    /// EAX, EBX, ECX, EDX, ESI, EDI, EBP.
    pub general: [u32; 7],
    /// DS, ES, FS, GS.
    pub segments: [u16; 4],
    /// ESP before the INT instruction.
    pub esp: u32,
    /// EFLAGS before the INT instruction.
    pub eflags: u32,
    /// Report fields whose values vary from run to run.
    pub hidden: Vec<&'static str>,
    variations: u8,
}

impl Call {
    /// A call of `interrupt` with AX and a pattern in every other register.
    pub fn new(interrupt: u8, ax: u16) -> Self {
        Self {
            interrupt,
            caller: Caller::Real,
            general: [
                0xa1a2_0000 | u32::from(ax),
                0xb1b2_b3b4,
                0xc1c2_c3c4,
                0xd1d2_d3d4,
                0x5152_5354,
                0x6162_6364,
                0x7172_7374,
            ],
            segments: [BUFFER_SEGMENT, BUFFER_SEGMENT, 0xf5f5, 0x6565],
            esp: STACK_POINTER,
            eflags: DEFAULT_EFLAGS,
            hidden: Vec::new(),
            variations: 0,
        }
    }

    /// Makes the call from another mode.
    pub fn from(mut self, caller: Caller) -> Self {
        self.caller = caller;
        self
    }

    /// Sets a whole register.
    pub fn set(mut self, register: Register, value: u32) -> Self {
        self.general[register as usize] = value;
        self
    }

    /// Sets the low 16 bits of a register.
    fn low(mut self, register: Register, value: u16) -> Self {
        let slot = &mut self.general[register as usize];
        *slot = *slot & 0xffff_0000 | u32::from(value);
        self
    }

    /// Sets BX.
    pub fn bx(self, value: u16) -> Self {
        self.low(Register::Ebx, value)
    }

    /// Sets CX.
    pub fn cx(self, value: u16) -> Self {
        self.low(Register::Ecx, value)
    }

    /// Sets DX.
    pub fn dx(self, value: u16) -> Self {
        self.low(Register::Edx, value)
    }

    /// Sets SI.
    pub fn si(self, value: u16) -> Self {
        self.low(Register::Esi, value)
    }

    /// Sets DI.
    pub fn di(self, value: u16) -> Self {
        self.low(Register::Edi, value)
    }

    /// Sets BP.
    pub fn bp(self, value: u16) -> Self {
        self.low(Register::Ebp, value)
    }

    /// Sets DS.
    pub fn ds(mut self, value: u16) -> Self {
        self.segments[0] = value;
        self
    }

    /// Sets ES.
    pub fn es(mut self, value: u16) -> Self {
        self.segments[1] = value;
        self
    }

    /// Report fields (`ax`, `high-eax`, `cf`, …) that vary from run to run: shown as `*`.
    pub fn hide(mut self, fields: &[&'static str]) -> Self {
        self.hidden.extend_from_slice(fields);
        self
    }

    /// Sets the carry flag before the call, so that a service which must clear it is seen to.
    pub fn carry(mut self) -> Self {
        self.eflags |= 1;
        self
    }

    /// Sets the direction flag before the call.
    pub fn direction(mut self) -> Self {
        self.eflags |= DIRECTION;
        self
    }

    /// Clears the interrupt flag before the call.
    pub fn interrupts_off(mut self) -> Self {
        self.eflags &= !INTERRUPT;
        self
    }

    /// Makes the call with an odd stack pointer.
    pub fn odd_stack(mut self) -> Self {
        self.esp = STACK_POINTER - 0x123;
        self
    }

    /// Makes the call with line A20 off.
    pub fn a20_off(mut self) -> Self {
        self.variations |= Variation::A20Off as u8;
        self
    }

    /// Makes the call with 4 GiB limits in DS, ES, FS and GS.
    pub fn unreal(mut self) -> Self {
        self.variations |= Variation::Unreal as u8;
        self
    }

    /// Fills FPU, SSE and debug registers before the call and reports all state around it.
    pub fn full_state(mut self) -> Self {
        self.variations |= Variation::FullState as u8;
        self
    }

    /// Whether line A20 is off at the call.
    pub(crate) fn a20_is_off(&self) -> bool {
        self.variations & Variation::A20Off as u8 != 0
    }

    fn record(&self) -> Vec<u8> {
        let kind = u8::from(self.caller == Caller::Service32);
        let first = if matches!(self.caller, Caller::Entry32 | Caller::Service32) {
            kind
        } else {
            self.interrupt
        };
        let mut bytes = vec![first, self.variations];
        bytes.extend(STACK_SEGMENT.to_le_bytes());
        bytes.extend(self.esp.to_le_bytes());
        for value in self.general {
            bytes.extend(value.to_le_bytes());
        }
        for value in self.segments {
            bytes.extend(value.to_le_bytes());
        }
        bytes.extend(self.eflags.to_le_bytes());
        bytes
    }
}

/// A pointer in the registers the last call returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pointer {
    /// ES:BX.
    EsBx,
    /// ES:DI.
    EsDi,
    /// ES:BP.
    EsBp,
}

impl Pointer {
    /// Offsets of the segment and the offset in what the executor keeps of a call (`out` in executor.s).
    fn offsets(self) -> [u8; 2] {
        let es = 38;
        match self {
            Self::EsBx => [es, 4],
            Self::EsDi => [es, 20],
            Self::EsBp => [es, 24],
        }
    }
}

/// A way to read a dump: names and lengths in bytes, one after the other. A name that starts with `_` is not reported,
/// one that ends with `*` is reported without its value.
pub type Layout = &'static [(&'static str, usize)];

/// How a dump is reported.
#[derive(Clone, Copy, Debug)]
pub enum View {
    /// One field with all bytes.
    Bytes,
    /// Named fields.
    Fields(Layout),
    /// Real-mode far pointers, each by the segment's kind alone.
    Vectors,
}

/// What a hook on an interrupt vector does besides counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Returns to the caller.
    Return = 0,
    /// Goes on to the handler that was there.
    Chain = 1,
}

/// What one operation answers with, for the report.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Call { name: String, call: Box<Call> },
    Dump { name: String, view: View },
    Sum { name: String },
    In { name: String, size: u8 },
    Wait { name: String },
    Scan { name: String },
    Hook { name: String, exact: bool },
    MemoryMap,
    Cpus,
    Functions,
    Reboots,
}

/// A row of operations and the names of their answers.
#[derive(Clone, Debug, Default)]
pub struct Script {
    bytes: Vec<u8>,
    answers: Vec<Answer>,
}

/// Operation numbers: the order of `operations` in `guest/executor.s`.
#[derive(Clone, Copy)]
enum Operation {
    End,
    Call,
    Dump,
    DumpPointer,
    DumpFound,
    Poke,
    Fill,
    Sum,
    Out,
    In,
    Wait,
    Scan,
    Text,
    Halt,
    MemoryMap,
    Hook,
    Call32,
    CallV86,
    CallProtected16,
    LongModeSse,
    CallCpus,
    Functions,
    Reboot,
}

impl Script {
    /// An empty script. It ends the guest once it has run.
    pub fn new() -> Self {
        Self::default()
    }

    /// The encoded script, with its end.
    pub fn bytes(&self) -> Vec<u8> {
        let mut ended = self.clone();
        ended.operation(Operation::End, &[]);
        ended.bytes
    }

    pub(crate) fn answers(&self) -> &[Answer] {
        &self.answers
    }

    fn operation(&mut self, operation: Operation, record: &[u8]) {
        let length = u16::try_from(4 + record.len()).expect("an operation is shorter than 64 KiB");
        self.bytes.extend([operation as u8, 0]);
        self.bytes.extend(length.to_le_bytes());
        self.bytes.extend(record);
    }

    /// Writes a name to the report's log, so that the log's tail tells where a guest stopped.
    pub fn text(&mut self, text: &str) {
        self.operation(Operation::Text, text.as_bytes());
    }

    /// Calls a service; its answers are reported as `NAME.REGISTER`.
    pub fn call(&mut self, name: &str, call: Call) {
        self.text(name);
        let operation = match call.caller {
            Caller::Real => Operation::Call,
            Caller::V86 => Operation::CallV86,
            Caller::Protected16 => Operation::CallProtected16,
            Caller::Entry32 | Caller::Service32 => Operation::Call32,
        };
        self.operation(operation, &call.record());
        let name = name.to_owned();
        self.answers.push(Answer::Call {
            name,
            call: Box::new(call),
        });
    }

    fn answer_dump(&mut self, name: &str, view: View) {
        let name = name.to_owned();
        self.answers.push(Answer::Dump { name, view });
    }

    /// Reports memory at a linear address.
    pub fn dump(&mut self, name: &str, address: u32, length: u16, view: View) {
        let mut record = address.to_le_bytes().to_vec();
        record.extend(length.to_le_bytes());
        self.operation(Operation::Dump, &record);
        self.answer_dump(name, view);
    }

    /// Reports memory at a pointer the last call returned.
    pub fn dump_pointer(&mut self, name: &str, pointer: Pointer, length: u16, view: View) {
        let mut record = pointer.offsets().to_vec();
        record.extend(length.to_le_bytes());
        self.operation(Operation::DumpPointer, &record);
        self.answer_dump(name, view);
    }

    /// Reports memory from the address the last [`Script::scan`] found.
    pub fn dump_found(&mut self, name: &str, displacement: u16, length: u16, view: View) {
        let mut record = displacement.to_le_bytes().to_vec();
        record.extend(length.to_le_bytes());
        self.operation(Operation::DumpFound, &record);
        self.answer_dump(name, view);
    }

    /// Writes memory at a linear address.
    pub fn poke(&mut self, address: u32, bytes: &[u8]) {
        let mut record = address.to_le_bytes().to_vec();
        record.extend(bytes);
        self.operation(Operation::Poke, &record);
    }

    /// Fills memory at a linear address.
    pub fn fill(&mut self, address: u32, length: u32, value: u8) {
        let mut record = address.to_le_bytes().to_vec();
        record.extend(length.to_le_bytes());
        record.push(value);
        self.operation(Operation::Fill, &record);
    }

    /// Reports the hash of memory; see [`crate::disk::sum`].
    pub fn sum(&mut self, name: &str, address: u32, length: u32) {
        let mut record = address.to_le_bytes().to_vec();
        record.extend(length.to_le_bytes());
        self.operation(Operation::Sum, &record);
        self.answers.push(Answer::Sum {
            name: name.to_owned(),
        });
    }

    /// Writes to an I/O port; `size` in bytes.
    pub fn write_port(&mut self, port: u16, size: u8, value: u32) {
        let mut record = port.to_le_bytes().to_vec();
        record.extend([size, 0]);
        record.extend(value.to_le_bytes());
        self.operation(Operation::Out, &record);
    }

    /// Reports an I/O port's value; `size` in bytes. With an empty name, the port is only read.
    pub fn read_port(&mut self, name: &str, port: u16, size: u8) {
        let mut record = port.to_le_bytes().to_vec();
        record.extend([size, 0]);
        self.operation(Operation::In, &record);
        self.answers.push(Answer::In {
            name: name.to_owned(),
            size,
        });
    }

    /// Waits for timer ticks (18.2 a second) as the BIOS counts them, and reports whether they came.
    pub fn wait_ticks(&mut self, name: &str, ticks: u16) {
        self.wait(name, ticks, 0);
    }

    /// Waits until bit 7 of the first byte of [`BUFFER`] is set, at most for so many timer ticks.
    pub fn wait_for_buffer_flag(&mut self, name: &str, ticks: u16) {
        self.wait(name, ticks, BUFFER_SEGMENT);
    }

    fn wait(&mut self, name: &str, ticks: u16, flag_segment: u16) {
        let mut record = ticks.to_le_bytes().to_vec();
        record.extend(flag_segment.to_le_bytes());
        self.operation(Operation::Wait, &record);
        self.answers.push(Answer::Wait {
            name: name.to_owned(),
        });
    }

    /// Looks for a signature at every `step` bytes of a linear range, and reports whether it is there.
    pub fn scan(&mut self, name: &str, range: std::ops::Range<u32>, step: u16, signature: &[u8]) {
        let length = u16::try_from(signature.len()).expect("a signature is short");
        let mut record = range.start.to_le_bytes().to_vec();
        record.extend(range.end.to_le_bytes());
        record.extend(step.to_le_bytes());
        record.extend(length.to_le_bytes());
        record.extend(signature);
        self.operation(Operation::Scan, &record);
        self.answers.push(Answer::Scan {
            name: name.to_owned(),
        });
    }

    /// Hooks an interrupt vector with one of four counting handlers.
    pub fn hook(&mut self, vector: u8, slot: u8, hook: Hook) {
        self.operation(Operation::Hook, &[vector, slot, hook as u8]);
    }

    /// Puts the vector back and reports how often the hook was called.
    pub fn unhook(&mut self, name: &str, vector: u8, slot: u8) {
        self.operation(Operation::Hook, &[vector, slot, 2]);
        self.answers.push(Answer::Hook {
            name: name.to_owned(),
            exact: true,
        });
    }

    /// Puts the vector back and reports whether the hook was called at all.
    pub fn unhook_any(&mut self, name: &str, vector: u8, slot: u8) {
        self.operation(Operation::Hook, &[vector, slot, 2]);
        self.answers.push(Answer::Hook {
            name: name.to_owned(),
            exact: false,
        });
    }

    /// Walks the memory map of INT 15h AX=E820h.
    pub fn memory_map(&mut self) {
        self.operation(Operation::MemoryMap, &[]);
        self.answers.push(Answer::MemoryMap);
    }

    /// Fills XMM8 to XMM15, which only long mode reaches, with [`HIGH_SSE`].
    pub fn fill_high_sse(&mut self) {
        self.high_sse("sse-high.fill", 0);
    }

    /// Reports XMM8 to XMM15 as 128 bytes.
    pub fn read_high_sse(&mut self, name: &str) {
        self.high_sse(name, 1);
        self.dump(name, 0x7_7000, 128, View::Bytes);
    }

    fn high_sse(&mut self, name: &str, mode: u8) {
        self.text(name);
        self.operation(Operation::LongModeSse, &[mode]);
        let call = Call::new(0, 0).from(Caller::Entry32).hide(&["*"]);
        self.answers.push(Answer::Call {
            name: name.to_owned(),
            call: Box::new(call),
        });
    }

    /// Starts all other CPUs and reports them; waits until there are `expected` or 20 s passed.
    pub fn start_cpus(&mut self, expected: u16) {
        self.text("start CPUs");
        self.call_cpus(expected, 0);
    }

    /// Reports all other CPUs as the firmware parked them: an NMI reaches them halted in real mode.
    pub fn look_at_parked_cpus(&mut self, expected: u16) {
        self.text("look at parked CPUs");
        self.call_cpus(expected, 1);
    }

    fn call_cpus(&mut self, expected: u16, how: u8) {
        let expected = expected.to_le_bytes();
        self.operation(Operation::CallCpus, &[expected[0], expected[1], how]);
        self.answers.push(Answer::Cpus);
    }

    /// Reports every PCI function with its BARs and their sizes.
    pub fn functions(&mut self) {
        self.text("PCI functions");
        self.operation(Operation::Functions, &[1]);
        self.answers.push(Answer::Functions);
    }

    /// Starts the machine again until that happened `times` times, counted in a CMOS register.
    pub fn reboot(&mut self, cmos_register: u8, times: u8) {
        self.operation(Operation::Reboot, &[cmos_register, times]);
        self.answers.push(Answer::Reboots);
    }

    /// Stops with interrupts off instead of ending the guest, for a look at its registers from outside.
    pub fn halt(&mut self) {
        self.operation(Operation::Halt, &[]);
    }
}

/// What [`Script::fill_high_sse`] puts in XMM8 to XMM15.
pub const HIGH_SSE: [u8; 128] = {
    let mut bytes = [0; 128];
    let mut at = 0;
    while at < bytes.len() {
        bytes[at] = (0x83 + at * 0x35) as u8;
        at += 1;
    }
    bytes
};

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
