# SPDX-License-Identifier: Apache-2.0
"""The gates that `include "qelib1.inc"` brings, each by its textbook circuit of U, CX and the gates before it.

PAPER are those of the OpenQASM 2.0 paper: a program may not define them again. LATER and CONTROLLED are those that tools have
added to the file since: many programs carry their own definition of these, which then counts. Nobody can call HIDDEN ones.
`id` and `u0` are not here: they take time, which no circuit of U and CX says.
"""

from __future__ import annotations

from typing import Final

PAPER: Final = """
gate u3(theta,phi,lambda) q { U(theta,phi,lambda) q; }
gate u2(phi,lambda) q { U(pi/2,phi,lambda) q; }
gate u1(lambda) q { U(0,0,lambda) q; }
gate cx c,t { CX c,t; }
gate x q { U(pi,0,pi) q; }
gate y q { U(pi,pi/2,pi/2) q; }
gate z q { u1(pi) q; }
gate h q { U(pi/2,0,pi) q; }
gate s q { u1(pi/2) q; }
gate sdg q { u1(-pi/2) q; }
gate t q { u1(pi/4) q; }
gate tdg q { u1(-pi/4) q; }
gate rx(theta) q { U(theta,-pi/2,pi/2) q; }
gate ry(theta) q { U(theta,0,0) q; }
gate rz(phi) q { u1(phi) q; }
gate cz a,b { h b; cx a,b; h b; }
gate cy a,b { sdg b; cx a,b; s b; }
gate ch a,b { s b; h b; t b; cx a,b; tdg b; h b; sdg b; }
gate ccx a,b,c {
  h c; cx b,c; tdg c; cx a,c; t c; cx b,c; tdg c; cx a,c;
  t b; t c; h c; cx a,b; t a; tdg b; cx a,b;
}
gate crz(lambda) a,b { rz(lambda/2) b; cx a,b; rz(-lambda/2) b; cx a,b; }
gate cu1(lambda) a,b { u1(lambda/2) a; cx a,b; u1(-lambda/2) b; cx a,b; u1(lambda/2) b; }
gate cu3(theta,phi,lambda) c,t {
  u1((lambda+phi)/2) c; u1((lambda-phi)/2) t; cx c,t;
  u3(-theta/2,0,-(phi+lambda)/2) t; cx c,t; u3(theta/2,phi,0) t;
}
"""

LATER: Final = """
gate u(theta,phi,lambda) q { U(theta,phi,lambda) q; }
gate p(lambda) q { u1(lambda) q; }
gate sx q { rx(pi/2) q; }
gate sxdg q { rx(-pi/2) q; }
gate swap a,b { cx a,b; cx b,a; cx a,b; }
gate cswap a,b,c { cx c,b; ccx a,b,c; cx c,b; }
gate crx(theta) a,b { h b; crz(theta) a,b; h b; }
gate cry(theta) a,b { ry(theta/2) b; cx a,b; ry(-theta/2) b; cx a,b; }
gate cp(lambda) a,b { cu1(lambda) a,b; }
gate csx a,b { h b; cu1(pi/2) a,b; h b; }
gate cu(theta,phi,lambda,gamma) c,t { p(gamma) c; cu3(theta,phi,lambda) c,t; }
gate rzz(theta) a,b { cx a,b; rz(theta) b; cx a,b; }
gate rxx(theta) a,b { h a; h b; rzz(theta) a,b; h a; h b; }
gate rccx a,b,c {
  h c; t c; cx b,c; tdg c; cx a,c; t c; cx b,c; tdg c; h c;
}
gate rc3x a,b,c,d {
  h d; t d; cx c,d; tdg d; h d; cx a,d; t d; cx b,d; tdg d; cx a,d; t d; cx b,d; tdg d;
  h d; t d; cx c,d; tdg d; h d;
}
"""

# No circuit of Clifford and T gates alone makes a gate with three controls on four qubits.  These take as few other rotations
# as are known (c3x 7, c3sqrtx 13, c4x 13): a control more is a pair of gates that are right up to phases, which cancel.
HIDDEN: Final = """
gate ccp(lambda) a,b,c {
  u1(lambda/4) a; u1(lambda/4) b; u1(lambda/4) c; cx a,b; u1(-lambda/4) b; cx b,c; u1(lambda/4) c;
  cx a,c; u1(-lambda/4) c; cx b,c; u1(-lambda/4) c; cx a,c; cx a,b;
}
gate c3p(lambda) a,b,c,d {
  cu1(lambda/2) c,d; rccx a,b,c; cu1(-lambda/2) c,d; rccx a,b,c; ccp(lambda/2) a,b,d;
}
gate rc3xdg a,b,c,d {
  h d; t d; cx c,d; tdg d; h d; t d; cx b,d; tdg d; cx a,d; t d; cx b,d; tdg d; cx a,d;
  h d; t d; cx c,d; tdg d; h d;
}
"""

CONTROLLED: Final = """
gate c3x a,b,c,d { h d; c3p(pi) a,b,c,d; h d; }
gate c3sqrtx a,b,c,d { h d; c3p(pi/2) a,b,c,d; h d; }
gate c4x a,b,c,d,e {
  h e; cu1(pi/2) d,e; rc3x a,b,c,d; cu1(-pi/2) d,e; rc3xdg a,b,c,d; c3p(pi/2) a,b,c,e; h e;
}
"""
