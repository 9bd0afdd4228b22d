//! What a boot sector's code tells of what it will do by itself.

/// Whether a boot sector may draw on the screen, or go on without us, before it calls any service. It is a guess on the safe side, by
/// the bytes of the instructions that such programs have: an immediate with text memory's segment or address, an address of the VGA's
/// ports or of an ATA drive's in DX, or LGDT, the first step to protected mode.
///
/// Sources: Intel SDM volume 2, MOV and LGDT; IBM VGA technical reference and ATA for the addresses.
pub fn works_alone(sector: &[u8]) -> bool {
    /// MOV DX, imm16.
    const MOV_DX: u8 = 0xba;
    sector.windows(3).any(|code| match *code {
        // B800h; the low word of B8000h follows its high one.
        [0x00, 0xb8, _] | [0x80, 0x0b, _] => true,
        [MOV_DX, low, high] => matches!(
            u16::from_le_bytes([low, high]),
            0x170..=0x177 | 0x1f0..=0x1f7 | 0x376 | 0x3b0..=0x3df | 0x3f6
        ),
        // LGDT has 2 in the second field of its ModRM byte, and memory for its operand.
        [0x0f, 0x01, modrm] => modrm >> 3 & 7 == 2 && modrm >> 6 != 3,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::works_alone;

    #[test]
    fn what_draws_by_itself_is_known() {
        for code in [
            // MOV AX, B800h; PUSH B800h; MOV EDI, B8000h; MOV byte [B8000h], 'A'.
            &[0xb8, 0x00, 0xb8, 0x8e, 0xc0][..],
            &[0x68, 0x00, 0xb8, 0x07],
            &[0x66, 0xbf, 0x00, 0x80, 0x0b, 0x00],
            &[0xc6, 0x05, 0x00, 0x80, 0x0b, 0x00, 0x41],
            // MOV DX, 3D4h; MOV DX, 1F7h; LGDT [7C40h]; LGDT [SI].
            &[0xba, 0xd4, 0x03, 0xee],
            &[0xba, 0xf7, 0x01, 0xec],
            &[0x0f, 0x01, 0x16, 0x40, 0x7c],
            &[0x0f, 0x01, 0x14],
        ] {
            assert!(works_alone(code), "{code:x?}");
        }
    }

    #[test]
    fn what_calls_services_is_not_taken_for_it() {
        for code in [
            // MOV AH, 42h; INT 13h. MOV DX, 3F8h. MOV DX, 80h. SGDT [SI]; SMSW AX.
            &[0xb4, 0x42, 0xcd, 0x13][..],
            &[0xba, 0xf8, 0x03, 0xee],
            &[0xba, 0x80, 0x00, 0xcd, 0x13],
            &[0x0f, 0x01, 0x04],
            &[0x0f, 0x01, 0xe0],
            &[0xb8],
            &[],
        ] {
            assert!(!works_alone(code), "{code:x?}");
        }
    }
}
