// A random circuit of Clifford and T gates on three qubits.
OPENQASM 2.0;
include "qelib1.inc";
qreg q[3];
creg c[3];
h q[0]; t q[0]; h q[1]; cx q[0], q[1]; tdg q[1]; h q[1]; s q[2]; h q[2];
cx q[1], q[2]; t q[2]; h q[2]; cx q[2], q[0]; h q[0]; t q[0]; s q[0]; h q[0];
cx q[0], q[1]; tdg q[1]; h q[1];
measure q -> c;
