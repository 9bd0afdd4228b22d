# A boot program that says which medium it was booted from: its letter goes to port E9h, and INT 18h gives the turn to the next.
#
# It runs at 0000:7C00 as a boot sector, as the start of a CD's boot image and as a network boot program.

.include "letter.inc"
    int 0x18
1:  hlt
    jmp 1b
    .org 0x1fe
    .word 0xaa55
