// The hidden string 101 in one question: the oracle adds the parity of the bits of the string to the last qubit.
OPENQASM 2.0;
include "qelib1.inc";
qreg x[3];
qreg a[1];
creg c[3];
x a[0];
h a[0];
h x;
cx x[0], a[0];
cx x[2], a[0];
h x;
measure x -> c;
