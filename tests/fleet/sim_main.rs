mod memory;
mod oracle;
mod simulation;
mod standin;
mod world;
