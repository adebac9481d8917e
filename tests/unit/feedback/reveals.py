"""What the sanitiser must cut, and what it must leave byte for byte."""

from __future__ import annotations

REVEALS = r"""
Final answer: B
Final Answer: (B)
final answer: b
FINAL ANSWER: B
**Final answer:** B
**Final answer**: **B**
**Final Answer: B**
### Final answer
The final answer is B.
The correct option is B
The correct option is B.
The correct answer is (B).
The correct answer is option B.
The correct choice would be B, because the field is uniform.
The correct answer should therefore be choice C.
The right answer is **B**.
The best answer is "B".
The answer should be choice C
The answer is B
The answer is clearly B.
the answer is b.
The answer to this question is (B).
The answer must be D since energy is conserved.
So the answer is A.
answer: b
Answer: B
Answer:B
Answer - B
Answer = B
Answer -> B
Answer → B
Answer (B)
Ans: B
ans. B
ANSWER: C
answer : (c)
The answer would have been B.
The answer key says C.
Correct answer: B) 56 pC
Correct answer — B
Correct: B.
Solution: (B)
\boxed{B}
$\boxed{B}$
$$\boxed{B}$$
\[\boxed{B}\]
\boxed{\text{B}}
\boxed{\mathrm{B}}
\boxed{\textbf{(B)}}
\boxed{(B)}
\boxed{ B }
\boxed{b}
\boxed{\text{Option B}}
\boxed{B: 56\text{ pC}}
\boxed{\text{B. 56 pC}}
\fbox{B}
boxed{B}
\\boxed{B}
The correct answer is $\boxed{B}$.
**B**
**(B)**
**B)**
**B.**
__B__
***B***
**Option B**
**(B) 56 pC**
**B: 56 pC**
<b>B</b>
<strong>(B)</strong>
\textbf{B}
(B) is correct
(B) is the correct answer.
B is correct.
B) is correct.
So B is the right choice.
option B is right
Option B is correct.
Option (B) is the correct choice.
Option **B** is right.
Choice C would be correct.
answer B is the best one
The choice of B is right.
Both A and C are correct.
option b is correct
<answer>B</answer>
<answer> B </answer>
<answer>(B)</answer>
<answer>Option B</answer>
<answer>B: 56 pC</answer>
<final_answer>B</final_answer>
<ANSWER>b</ANSWER>
<answer>B
Go with D
go with option D.
I would go with (D).
Select B
Please select option B.
choose C instead
You should choose C.
Choose (C).
pick B because the charge is negative
mark option D
Change your answer to B.
switch to option C
stick with C.
You should have chosen B.
The peer should have picked option (C).
It should be (B).
It's B.
it is C
That's option B.
This leads to option B.
which corresponds to choice C.
The value matches option D.
Therefore, the answer is C
Hence, C.
Therefore, (D).
So B.
Thus option B.
∴ B
B
(B)
B.
Option B
B because the charges repel.
B ✓
✅ B
(B) (correct)
which makes B the right choice
This makes option C the only correct answer.
only B remains
leaving option B.
not A but B
The correct option, B, follows from the lens equation.
the right answer (B) needs
the correct letter: B
The answer is Ｂ.
The answer is Ⓑ.
The answer is 𝐁
An​swer: B
The answer is С.
The answer is therefore given by option C.
The answer is $B$.
The answer is \(\mathbf{B}\).
The answer is {B}
My answer: B
The answer is: B
The answer, then, is B.
The letter is B.
The answer is A because the force is zero.
The final answer would most likely be (a).
答案是B
答案：B
正确答案为 B。
La respuesta correcta es B.
Die richtige Antwort ist B.
La bonne réponse est C.
""".strip("\n").splitlines()

REVEALS[REVEALS.index("### Final answer")] = "### Final answer\n\nB"
REVEALS += ["<answer>\nB\n</answer>", "Check the signs.\n\nB\n\nThen go on.", "Answer:\n\n**B**", "\x08oxed{B}", "The answer is\nB"]

INNOCENT = r"""
Option B uses the wrong unit.
option B uses the wrong unit, while option C forgets the factor of two
You ruled out option C without a reason.
The student picked option C too early.
Compare your value with option D before you go on.
Why is option B wrong? Look at the units.
So option B overestimates the charge.
Thus option C fails on dimensional grounds.
Options A and B differ only by a factor of ten.
The options are A, B, C, and D.
Option B is not correct.
Option B is incorrect because the sign is wrong.
Option A is partially correct.
(a) The first step is right; (b) the second is not.
Part (b) is correct, but part (c) lacks a unit.
Step A is correct.
Vitamin B is essential here.
vitamin B is right at the centre of the pathway
Move the charge from point A to point B.
Plan A failed, so go with plan B.
The magnetic field B points upward.
The field B is correct in direction but not in size.
Magnetic field **strength** matters.
The B-field is uniform.
Use a C-C bond length of 1.54 Å.
Hepatitis B is a virus.
The vector $\mathbf{B}$ is perpendicular to $\mathbf{v}$.
\boxed{42}
the acceleration \textbf{g} points down
$\boxed{4.2 \times 10^{3}}$
The intermediate value \boxed{56} lacks a unit.
\boxed{F = ma}
\boxed{\frac{1}{2}}
\boxed{B = 0.5\,\text{T}}
Final answer: 42
Final answer: 56 pC
The answer is 42.
The answer should be positive.
The answer is a scalar, not a vector.
Your answer is a bit off.
The answer: a good start, but check the sign.
Answer: A good start, but the sign is wrong.
The answer is F = ma rearranged for a.
The correct answer is E = mc^2 in other units.
The answer depends on whether B is larger than A.
The answer is in joules.
The answer is H2O, not a letter.
The answer is off by a factor of c, e.g. in step 2.
The solution is I think incomplete.
Select an appropriate reference frame.
Choose B such that the flux vanishes.
Choose a frame in which A is at rest.
Pick N = 5 for the sum.
Choose the option that conserves energy.
If A is true then B follows.
Let A be the area and B the base.
The unit must be C (coulomb).
The temperature in °C is missing.
Group A and group B have the same mean.
The rate constant k is wrong by ten.
So A and B are equal.
It is a common mistake.
The correct approach is to use Gauss's law.
The correct formula is V = IR.
Correct: energy is conserved in step 2.
Your final result lacks a unit.
The best choice is to linearise first.
<answer> 42 </answer>
<concept>electric field</concept> The response is right.
**Key point:** the charge is negative.
**F** = m**a** is used correctly.
the right-hand rule gives the direction
The student's reasoning in step 3 is correct.
As and Ga form a III-V compound.
A is the mass number and Z the atomic number.
You answered too fast.
x = \{a, b, c\} and f(x) is {unclosed
Type A and type B errors are mixed up.
The correct order of the steps is 1, 3, 2.
None of the options B to D keeps the symmetry.
""".strip("\n").splitlines()

INNOCENT += ["", "   ", "\n\n", "A paragraph\nwith lines\n\nand 42 numbers."]
