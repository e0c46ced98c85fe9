// Sends the two bits 1 and 1 with one qubit of a Bell pair: always 11.
OPENQASM 2.0;
include "qelib1.inc";
qreg q[2];
creg c[2];
h q[0];
cx q[0], q[1];
barrier q;

// the sender holds q[0]: x says the second bit, z the first
x q[0];
z q[0];
barrier q;

// the receiver
cx q[0], q[1];
h q[0];
measure q -> c;
