//! A worker that speaks as one of another version of aioxide would.

use std::fs::File;
use std::io::{self, Read, Write};

fn main() -> io::Result<()> {
    let mut control = File::from(rustix::io::dup(io::stdin())?);
    control.write_all(b"aioxide\0\xff\x7f\x069.9.9x")?;
    control.read_to_end(&mut Vec::new())?;
    Ok(())
}
