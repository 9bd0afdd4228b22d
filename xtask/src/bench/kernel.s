# The kernel of the benchmarks: 4 KiB that pass for a Linux kernel (Documentation/arch/x86/boot.rst, protocol 2.12), with its
# real-mode, 32-bit and 64-bit entries. Each says when it was entered, the way guest.s does, and ends QEMU.

# Writes 'T' and the eight bytes of the time-stamp counter to port 0x4E9. All of it works in every mode, without a stack.
    .macro report
    rdtsc
    mov     %eax, %ebx
    mov     %edx, %ecx
    mov     $0x4E9, %dx
    mov     $'T', %al
    out     %al, %dx
    mov     %ebx, %eax
    .rept   4
    out     %al, %dx
    shr     $8, %eax
    .endr
    mov     %ecx, %eax
    .rept   4
    out     %al, %dx
    shr     $8, %eax
    .endr
    mov     $0xF4, %dx
    out     %al, %dx
1:  hlt
    jmp     1b
    .endm

    .globl _start
_start:
    # For EFI it is a program, too, as Linux is with CONFIG_EFI_STUB (PE format, sections 2 to 4): for 32 bits, with one section.
    .ascii  "MZ"
    .org    0x3C
    .long   pe - _start
pe: .ascii  "PE\0\0"
    .word   0x14C                       # Machine: i386
    .word   1                           # NumberOfSections
    .long   0, 0, 0
    .word   sections - optional
    .word   0x206                       # Characteristics: can be executed, has neither line numbers nor debugging information
optional:
    .word   0x10B                       # Magic: PE32
    .word   0
    .long   0x200, 0, 0                 # sizes of code and data
    .long   0x1000                      # AddressOfEntryPoint
    .long   0x1000, 0x2000              # BaseOfCode, BaseOfData
    .long   0                           # ImageBase
    .long   0x1000, 0x200               # SectionAlignment, FileAlignment
    .long   0, 0, 0
    .long   0
    .long   0x2000, 0x200               # SizeOfImage, SizeOfHeaders
    .long   0
    .word   10, 0                       # Subsystem: EFI application
    .long   0, 0, 0, 0
    .long   0
    .long   6                           # NumberOfRvaAndSizes
    .rept   6
    .quad   0
    .endr
sections:
    .ascii  ".text\0\0\0"
    .long   0x200, 0x1000               # VirtualSize, VirtualAddress
    .long   0x200, protected - _start   # SizeOfRawData, PointerToRawData
    .long   0, 0, 0
    .long   0x60000020                  # code that can be read and executed
    .org    0x1F1
    .byte   1                           # setup_sects
    .word   0
    .long   (end - protected) / 16      # syssize
    .org    0x1FE
    .word   0xAA55
    .code16
    jmp     real
    .ascii  "HdrS"
    .word   0x20C                       # version
    .org    0x211
    .byte   1                           # loadflags: the kernel goes to 1 MiB or above
    .org    0x214
    .long   0x100000                    # code32_start
    .org    0x22C
    .long   0x7FFFFFFF                  # initrd_addr_max
    .long   0x200000                    # kernel_alignment
    .byte   1                           # relocatable_kernel
    .byte   21                          # min_alignment
    .word   1                           # xloadflags: it has a 64-bit entry
    .long   2047                        # cmdline_size
    .org    0x258
    .quad   0x1000000                   # pref_address
    .long   0x100000                    # init_size
    .org    0x268
real:
    report

    .org    0x400
    .code32
protected:
    report
    .org    0x600
    .code64
    report
    .org    0x1000
end:
