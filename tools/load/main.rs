mod observe;
mod report;

fn main() {}
