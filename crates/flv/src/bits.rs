//! A bit reader with Exp-Golomb codes, for parameter sets and audio configurations.

use crate::Error;

pub(crate) struct Bits<'a> {
    bytes: &'a [u8],
    /// Bits consumed.
    at: usize,
    what: &'static str,
}

impl<'a> Bits<'a> {
    /// `what` names the structure in errors.
    pub(crate) const fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { bytes, at: 0, what }
    }

    pub(crate) const fn remaining(&self) -> usize {
        self.bytes.len() * 8 - self.at
    }

    pub(crate) const fn malformed(&self) -> Error {
        Error::Malformed(self.what)
    }

    pub(crate) fn bit(&mut self) -> Result<bool, Error> {
        let byte = self.bytes.get(self.at / 8).ok_or(Error::Truncated(self.what))?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Ok(bit == 1)
    }

    /// The next `count` bits, at most 32, as a number.
    pub(crate) fn u(&mut self, count: u32) -> Result<u32, Error> {
        debug_assert!(count <= 32);
        let mut value = 0_u32;
        for _ in 0..count {
            value = value << 1 | u32::from(self.bit()?);
        }
        Ok(value)
    }

    pub(crate) fn skip(&mut self, count: usize) -> Result<(), Error> {
        if count > self.remaining() {
            return Err(Error::Truncated(self.what));
        }
        self.at += count;
        Ok(())
    }

    /// Unsigned Exp-Golomb code.
    pub(crate) fn ue(&mut self) -> Result<u32, Error> {
        let mut zeros = 0;
        while !self.bit()? {
            zeros += 1;
            if zeros > 31 {
                return Err(self.malformed());
            }
        }
        let suffix = self.u(zeros)?;
        Ok((1_u32 << zeros) - 1 + suffix)
    }

    /// Signed Exp-Golomb code.
    pub(crate) fn se(&mut self) -> Result<i64, Error> {
        let code = i64::from(self.ue()?);
        Ok(if code % 2 == 0 { -(code / 2) } else { (code + 1) / 2 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_golomb_codes() {
        // 1 | 010 | 011 | 00100 | 00101 | padding
        let bytes = [0b1010_0110, 0b0100_0010, 0b1000_0000];
        let mut bits = Bits::new(&bytes, "test");
        assert_eq!(
            [bits.ue(), bits.ue(), bits.ue(), bits.ue(), bits.ue()],
            [Ok(0), Ok(1), Ok(2), Ok(3), Ok(4)]
        );
        let mut bits = Bits::new(&bytes, "test");
        assert_eq!(
            [bits.se(), bits.se(), bits.se(), bits.se(), bits.se()],
            [Ok(0), Ok(1), Ok(-1), Ok(2), Ok(-2)]
        );
        assert_eq!(Bits::new(&[0; 8], "test").ue(), Err(Error::Malformed("test")));
        assert_eq!(Bits::new(&[0; 2], "test").ue(), Err(Error::Truncated("test")));
    }
}
