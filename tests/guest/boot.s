# The boot sector of every test disk: loads the executor and its script from the sectors that follow it.
#
# True on entry: real mode, running at 0000:7C00 (or 07C0:0000), DL = BIOS drive.
# The test harness patches `sector_count` with the number of sectors to load.

.equ LOAD_SEGMENT, 0x1000
.equ SECTORS_A_CALL, 32

.include "start.inc"
    mov [drive], dl
next_chunk:
    mov ax, [sector_count]
    test ax, ax
    jz loaded
    cmp ax, SECTORS_A_CALL
    jbe 1f
    mov ax, SECTORS_A_CALL
1:  mov [packet_count], ax
    mov si, offset packet
    mov ah, 0x42
    mov dl, [drive]
    int 0x13
    jc failed
    mov ax, [packet_count]
    sub [sector_count], ax
    movzx eax, ax
    add [packet_lba], eax
    shl ax, 5                       # sectors to paragraphs
    add [packet_segment], ax
    jmp next_chunk
loaded:
    mov dl, [drive]
    .byte 0xea
    .word 0, LOAD_SEGMENT
failed:
    mov al, ah
    mov dx, 0xe9
    push ax
    mov si, offset message
1:  lodsb
    test al, al
    jz 2f
    out dx, al
    jmp 1b
2:  pop ax
    add al, 0x20                    # keeps a status byte such as 01 or 80 visible
    out dx, al
    mov al, 10
    out dx, al
    cli
3:  hlt
    jmp 3b

message: .asciz "\n~!boot sector: INT 13h AH=42h failed, status + 20h = "
drive:  .byte 0
    .balign 4
packet:
        .byte 16, 0
packet_count:
        .word 0
        .word 0
packet_segment:
        .word LOAD_SEGMENT
packet_lba:
        .long 1, 0

    .org 0x1b6                      # BOOT_COUNT_OFFSET in src/disk.rs
sector_count:
    .word 0
    .org 0x1fe
    .word 0xaa55
