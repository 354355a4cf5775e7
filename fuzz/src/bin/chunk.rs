#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| castlog_fuzz::chunk(bytes));
