// A full adder with two Toffoli gates: a = 1, b = 1, carry in = 1 make sum 1 and carry 1.
OPENQASM 2.0;
include "qelib1.inc";
qreg a[1];
qreg b[1];
qreg carry[2];
creg sum[1];
creg out[1];
x a[0];
x b[0];
x carry[0];
ccx a[0], b[0], carry[1];
cx a[0], b[0];
ccx b[0], carry[0], carry[1];
cx b[0], carry[0];
measure carry[0] -> sum[0];
measure carry[1] -> out[0];
