"""The forms in which a tutor gives the answer letter away, as regular expressions (method section 3).

They are matched against folded text (see `opcod.feedback.sanitizing`), so that ``Ｂ`` or ``𝐁`` is a B here.
A form errs towards cutting where a letter is called the answer, and towards keeping where a letter is
only mentioned: "option B uses the wrong unit" stays. Numbers and formulas stay, boxed or not.

Time is linear in the text: repetition is bounded, save for runs of white space, which no form starts with.
"""

from __future__ import annotations

import re

# What may stand between the words of a form and its letter: white space, emphasis, brackets, LaTeX and HTML.
_JUNK = r"(?:\s++|</?[A-Za-z]{1,12}>|[*_\"'`“”‘’«»()\[\]{}$#<>|~]|\\[A-Za-z]{1,12}|\\[,;:! ()\[\]])"
_POINTER = rf"(?:{_JUNK}|[:=→⇒\u2010-\u2015-])"
_JUNKS, _POINTERS = rf"{_JUNK}{{0,24}}+", rf"{_POINTER}{{0,24}}+"
_CLOSE = r"(?:[)\]}*_\"'`”’»>$]|\\[)\]]|</[A-Za-z]{1,12}>){0,24}+"

# A letter that starts a word, symbol or formula is no answer letter: "B-field", "H2O", "E = mc^2", "N/m", "e.g.".
_WHOLE = (
    r"(?![A-Za-z0-9^{]|['’][A-Za-z]|[-\u2010\u2011][A-Za-z]|[*_][A-Za-z0-9{]|\s?=\s?[A-Za-z\\]|/[A-Za-z]|\.[A-Za-z]\."
    r"|\s+(?:fields?|equals?|divided|times|plus|minus|atoms?|ions?|orbitals?|bonds?|axis|points|per|over)\b)"
)
_ENDED = r"(?=[.,;:!?)\]}\"'`”’»>$]|[*_](?![A-Za-z0-9])|</|\\[)\]]|\s*+\Z|[ \t]*+\n|\s+(?:because|since)\b)"
_FOLLOWED = (
    r"(?=[.,;:!?)\]}\"'`”’$|]|[*_](?![A-Za-z0-9])|</|\\[)\]]|[^\x00-\x7f]|\s*+(?:\Z|[-\u2013\u2014(]|\d|[A-Z])"
    r"|\s+(?:because|since|as|not|and|or|but|for|rather|instead|here|which|that|so|due|given|with|by|while|whereas|then|if|when|at|from|in|on)\b)"
)
# "A" and "I" are words, and lower-case letters are variables or articles, unless the text stops after them.
_LETTER = rf"(?:[B-HJ-Z]|A(?={_FOLLOWED})|I(?={_ENDED})|[a-j](?={_ENDED})|[b-j](?=\s+[A-Z])){_WHOLE}"
_MORE_LETTERS = r"(?:(?:\s*(?:,|/|&|,?\s+and|,?\s+or)\s*)[A-J](?=\s*(?:[,.;)&/]|and\b|or\b|\Z))){0,8}"
_NOUN = r"(?i:option|choice|answer|letter|alternative)"
_NAMED = rf"(?:(?i:the\s+)?{_NOUN}(?i:\s+letter|\s+is)?{_POINTER}{_POINTERS})?{_LETTER}{_MORE_LETTERS}{_CLOSE}"
_OPTION = rf"(?:{_NOUN}(?i:\s+of)?{_JUNK}{{1,6}}[A-Za-j]{_WHOLE}{_CLOSE})"
_WRAPPED = r"(?:[(\[*_\"'`“‘$]{1,4}[A-Za-j][)\]*_\"'`”’$]{1,4})"

_ADVERB = (
    r"(?:(?!only|partly|partially|nearly|hardly|barely)[a-z]{2,12}ly|therefore|thus|hence|then|indeed|just|most\s+likely|in\s+fact|still"
    r"|also|instead|of\s+course|the|to\s+be|given\s+(?:by|as)|marked|labell?ed|listed|as|found\s+in)"
)
_IS = (
    r"(?:(?:should|must|would|will|can|could|may|might|has\s+to|had\s+to|ought\s+to|needs\s+to)"
    rf"(?:\s+{_ADVERB}){{0,2}}\s+(?:have\s+been|be)|can\s+only\s+be|can\s?not\s+be\s+anything\s+(?:but|other\s+than)|is|was|are|were|be|being|equals?|remains?|becomes?|seems|appears|looks|says|reads"
    r"|turns?\s+out|comes?\s+out|['’]s)"
)
_QUALITY = (
    r"(?:correct|right|final|best|true|proper|actual|intended|expected|accurate|real|only|single|appropriate|preferred|valid|closest"
    r"|overall|official|most\s+\w{1,20})"
)
_QUALIFIED = (
    rf"(?:{_QUALITY}[\s*_\"'`“”‘’-]{{1,6}}){{1,4}}"
    r"(?:answers?|options?|choices?|letters?|alternatives?|selections?|picks?|one|solutions?|responses?|results?)"
)
_ABOUT = (
    rf"(?:[,(\s]{{1,3}}which)?(?:,\s(?:{_ADVERB}|in\s+the\s+end),)?"
    r"(?:\s+(?:to|for|of|here|among|in|from|below|above|that|you|we|letter|key|choice|option)\b[^.\n;:=]{0,60}?)?"
)
_HEAD = r"(?:#{1,6}[ ])?[*_(\[]{0,3}"
_CORRECT = (
    r"(?:(?:the|a|your)\s+)?(?:(?:only|single|one|most)\s+)?"
    r"(?:correct|true(?!\s+north)|best|closest|intended|expected|proper|answer|accurate|winner"
    r"|right(?!\s+(?:next|after|before|now|away|angle|side|hand|above|below|at|on|in\s+the|to|of)\b))(?![-\w])"
    r"(?:\s+(?:answer|option|choice|one|match|fit|selection|letter)\b)?"
)
_VALUE = r"[$\s(]{0,3}[-−]?[\d$\\](?:[^.,;\n]|[.,]\d){0,40}?"
_GLOSS = rf"(?:\s?\([^()\n]{{1,60}}\)|[:.,]?\s{_VALUE},?)?"
_IS_CORRECT = (
    rf"(?:{_GLOSS}\s*{_IS}(?:[\s,]{{1,4}}{_ADVERB}){{0,4}}\s+(?:the\s+one\s+(?:that|which)\s+is\s+)?{_CORRECT}"
    rf"|[,;:.–—-]{{1,2}}\s?(?:which|that|it|this)\s+is\s+{_CORRECT}|\s?\((?:which\s+is\s+)?{_CORRECT}\))"
)
_BEFORE_BARE = (
    r"(?:^[ \t>*-]{0,6}|[.,;:!?(–—][ \t]{0,4}|\b(?i:so|thus|hence|therefore|that|and|but|both|because|since|only|then|clearly|indeed|think"
    r"|believe|while|where|whereas|says?|means|conclude|yes|no|choosing|selecting|picking)[ \t]{1,4})"
)
_NO_LABEL = "".join(
    rf"(?<!{word} )"
    for word in ("part", "step", "point", "line", "case", "phase", "region", "section", "equation", "term", "figure", "eq.", "statement")
)
_DECIDE = (
    r"(?:choose|select|pick|mark|tick|opt\s+for|go\s+(?:with|for)|settle\s+(?:on|for)|stick\s+(?:with|to)|vote\s+for"
    r"|(?:answer|respond|reply)\s+with|(?:should|must|please)\s+answer|change\s+(?:(?:it|this|(?:your|the|its|their)\s+\w{1,12})\s+)?to|switch\s+to|say|guess|submit"
    r"|(?:should|must|ought\s+to)(?:\s+instead)?\s+have\s+(?:[a-z]{2,12}ly\s+)?(?:chosen|selected|picked|answered|said|marked|been"
    r"|concluded|gone\s+(?:with|for)|opted\s+for|settled\s+on))"
)
_DECIDED = (
    r"(?=[.,;:!?)\]}\"'`”’»>$]|[*_](?![A-Za-z0-9])|</|\\[)\]]|\s*+\Z|[ \t]*+\n"
    r"|\s+[A-Z][a-z]{2}|\s+(?:because|since|instead|here|not|rather|over|which|but|as\s+(?:the|your|its)\s+(?:\w{1,12}\s+){0,2}(?:answer|option|choice|one|correct))\b)"
)
_LEADS_TO = (
    r"(?:leads?\s+to|points?\s+to|correspond(?:s|ing)?\s+to|match(?:es|ing)?|gives?|giving|yields?|is|be|equals?|supports?|suggests?|agrees?\s+with"
    r"|consistent\s+with|closest\s+to|indicates?|implies|get|obtain|confirms?|favou?rs?|i\.e\.,?|namely|hence,?|thus,?|therefore,?|so,?|that['’]s|it['’]s)"
)
_STOP = r"(?=\s*+(?:[.,;:!?)(]|\Z|\n|\u2013|\u2014|because\b|since\b|as\b|and\s+not\b|with\b|at\b))"
_FULL_STOP = r"(?=[ \t]*+(?:[.;!]|\Z|\n))"
_FOREIGN = r"(?:respuesta|réponse|reponse|antwort|lösung|risposta|resposta|ответ|정답|답|答え|正解)"

CANDIDATE = re.compile(
    r"(?<![A-Za-z0-9])(?:[A-Zb-z]|a(?![ \t]+[a-z])|a(?=\s+(?:because|since)\b))(?![A-Za-z0-9])"
    rf"|{_NOUN}\W{{1,8}}(?i:of\W{{1,8}})?a(?![A-Za-z0-9])"
)
"""A letter by itself, other than the article: no form matches a text without one. Most feedback has none, and is done at once."""

_BOXED_TEXT = r"[)\]}]{0,2}[.:)][^{}\n]{0,80}(?:\{[^{}\n]{0,40}\}[^{}\n]{0,40})?\}?"

REVEALS = tuple(
    re.compile(form, re.MULTILINE)
    for form in (
        # The correct answer is B. / **Final answer:** (B) / answer: b / the right option would then be $\boxed{B}$
        rf"{_HEAD}\b(?i:(?:(?:the|your|my|our|its|their)\s+)?(?:{_QUALIFIED}|answers?|ans\b\.?|option|choice|letter|selection|pick|verdict|(?:answer\s+)?key))"
        rf"(?i:{_ABOUT}){_JUNK}{{0,6}}(?:(?i:{_IS})(?i:(?:[\s,]{{1,4}}{_ADVERB}){{0,4}})|[:=→⇒⟶]|,(?=\s[B-J],)|[\u2010-\u2015-]{{1,2}}>?){_POINTERS}{_NAMED}",
        # the correct option (B) / the right answer, B,
        rf"{_HEAD}\b(?i:(?<!your )(?<!their )(?<!his )(?<!her )(?<!student's )(?<!peer's ){_QUALIFIED})"
        rf"(?:\s*,)?{_POINTER}{_POINTERS}{_NAMED}",
        # Answer (B)
        rf"(?:^[ \t*_#>]{{0,6}}|(?<=[.!?:]\s)|\()(?i:answer|ans\.?)\s+(?:{_WRAPPED}(?!\s+[a-z])|[A-Z](?={_FOLLOWED}){_WHOLE})",
        # Correct: B. / Solution: (B) / the label is B.
        rf"{_HEAD}\b(?i:(?:correct|final|conclusion|result){_JUNK}{{0,6}}:|(?:solution|response|label|truth)(?:{_JUNK}{{0,6}}:|\s+{_IS}\s)){_POINTERS}[A-Za-j](?={_ENDED}){_WHOLE}{_CLOSE}",
        # option B is right / the choice of B must be the correct one
        rf"(?i:\bthe\s+)?\b{_OPTION}(?i:{_IS_CORRECT})",
        # (B) is correct
        rf"(?=[(\[*_\"'`“‘$])(?i:{_NO_LABEL}){_WRAPPED}(?i:{_IS_CORRECT})",
        # so B is correct / both A and C are right
        rf"{_BEFORE_BARE}(?P<bare>[A-Z](?:\s*(?:,|&|\band\b|\bor\b)\s*[A-Z]){{0,4}}{_WHOLE}[).]?(?i:{_IS_CORRECT}))",
        # go with D / select B because / you should have chosen option C
        rf"\b(?i:{_DECIDE}){_POINTER}{_POINTERS}(?:(?i:the\s+)?(?:{_OPTION}|[(\[*_\"'`“‘$]{{0,4}}[B-HJ-Z](?={_DECIDED}){_WHOLE}{_CLOSE}"
        rf"|[AI](?={_DECIDED}){_WHOLE}{_CLOSE}|{_WRAPPED}))",
        # the answer is 56 pC, option B / the answer is 56 pC (B)
        rf"\b(?i:{_QUALIFIED}|answer)\s+(?i:{_IS}){_VALUE}[$)\s]{{0,3}}(?:[,(]\s{{0,2}}(?i:i\.e\.,?\s|namely\s|which\s+is\s|or\s)?(?:{_OPTION}|[B-HJ-Z](?={_ENDED}){_CLOSE})|\([A-Z]\))",
        # try B instead
        rf"\b(?i:try|consider)\s+(?:{_OPTION}|{_WRAPPED}|[A-Z])\s+(?i:instead)\b",
        # this leads to option B. / corresponds to (C). / should be (D)
        rf"\b(?i:{_LEADS_TO})\s+(?i:the\s+)?(?:{_OPTION}|{_WRAPPED}){_STOP}",
        rf"\b(?i:(?:should|must|has\s+to|would)\s+(?:be|have\s+been))\s+{_WRAPPED}",
        # Hence, B. / it is C. / ∴ (D)
        rf"(?:\b(?i:hence|thus|therefore|so|it['’]s|that['’]s|(?:it|that|this|which)\s+(?:is|must\s+be|has\s+to\s+be|should\s+be|would\s+be|can\s+only\s+be))\b|∴),?{_POINTER}{_POINTERS}(?:{_OPTION}|{_WRAPPED}|[A-HJ-Z]{_WHOLE}{_CLOSE}){_FULL_STOP}",
        # a line with nothing but the letter
        rf"^[ \t>#*_=⇒→-]{{0,6}}(?i:(?:(?:the|final|correct|right|my|best)[ \t]){{0,3}}(?:{_NOUN}|ans\.?)?)[ \t*_\"'`()\[\]$]{{0,6}}"
        r"[A-Z][.)\]*_\"'`:$]{0,6}[ \t]{0,8}$",
        # B because ... at the start
        r"^[ \t*_(]{0,4}[B-HJ-Z][).:,*_]{0,4}[ \t]{1,4}(?:because|since)\b",
        # **B** / **(B) 56 pC** / __b__ / <b>B</b> / \textbf{B}
        rf"(?<![\w=+×·])(?P<mark>\*\*\*?|__)[ ]?(?i:(?:the\s)?{_NOUN}[ :]{{1,2}})?"
        rf"[(\[\"']?[A-Za-j][)\]\"']?[.:)]?[ ]?(?P=mark)(?!\s?[=+×·^/])",
        r"(?P<marks>\*\*\*?|__)[ ]?(?:\([A-Z]\)|[A-Z][.:)])[ ][^*_\n]{1,200}(?P=marks)",
        rf"<(?P<tag>b|strong|em|mark|u)>[\s(]{{0,4}}(?:{_NOUN}[ :]{{1,2}})?[A-Za-j][\s).:]{{0,4}}</(?P=tag)>",
        r"\\textbf\{[\s(]{0,4}[A-J][\s).:]{0,4}\}",
        # \boxed{B} / $\boxed{\text{(B) 56 pC}}$ / \boxed B
        rf"(?:\\\[|\\\(|\${{1,2}})?[ ]?(?:\\{{0,2}}boxed|\\{{1,2}}[fx]box|[\b]oxed)\s{{0,4}}\{{{_JUNK}{{0,8}}+"
        rf"(?i:(?:the\s+)?{_NOUN}(?:\s+is)?{_POINTER}{{1,8}}+)?[A-Za-z]"
        rf"(?:(?:\s?(?:,|&|and)\s?[A-J]){{0,5}}(?:[)\]}}*_\"'`”’$.:\s]|\\[,;:! ]){{0,8}}|{_BOXED_TEXT})\}}{_CLOSE}",
        r"\\boxed\s?[A-Z](?![A-Za-z0-9])",
        # <answer> B </answer>
        rf"(?i:<\s{{0,3}}(?:final[_ ]?)?(?:answer|ans|option|choice)\s{{0,3}}>){_JUNKS}(?:{_NOUN}{_POINTER}{{1,6}})?[A-Za-z](?![A-Za-z0-9])"
        r"(?:[)\]}*_\"'`”’$.:]{0,6}\s*+(?=<|\Z)|[ \t]*+\n|[.:)][^<\n]{0,120})(?:\s*+(?i:</[a-z_ ]{1,16}>))?",
        # B ✓ / (B) <- correct / ✅ B
        r"[(\[*_]{0,3}\b[A-Z](?:[)\].:*_]{0,4})[ ]{0,2}(?:[✓✔✅☑]|\((?i:correct|right)\)|(?:<-|←)[ ]?(?i:correct|answer|right))",
        r"[✓✔✅☑]\ufe0f?[ ]{0,2}(?i:option\s|answer:?\s)?[(\[*_]{0,3}[A-Z](?![A-Za-z0-9])[)\].:*_]{0,4}",
        # which makes B the right choice
        rf"\b(?i:mak(?:es?|ing))\s+(?:{_OPTION}|{_WRAPPED}|[A-Z]{_WHOLE})\s+(?i:{_CORRECT})",
        # only B remains / leaving B / all but C
        rf"\b(?i:only)\s+(?:{_OPTION}|{_WRAPPED}|[A-Z]{_WHOLE})\s+(?i:remains|is\s+left|survives|fits|works|satisfies|is\s+possible|is\s+consistent|can\s+be)\b",
        rf"\b(?i:leav(?:es|ing)(?:\s+(?:only|us\s+with|you\s+with|just))?|(?:all|everything)\s+(?:but|except))\s+(?:{_OPTION}|{_WRAPPED}|[A-HJ-Z](?={_DECIDED}){_WHOLE}){_STOP}",
        # not A but B / B, not A
        rf"\b(?i:not)\s+(?:{_OPTION}|{_WRAPPED}|[A-Z]),?\s+(?i:but)\s+(?i:rather\s+)?(?:{_OPTION}|{_WRAPPED}|[A-Z](?={_DECIDED}){_WHOLE})",
        # the same in other languages that students write
        rf"(?:故选|应选|应该选|正确答案|答案|选项?|选择)[是为应该选项\s:：]{{0,8}}{_JUNK}{{0,4}}[A-J](?![A-Za-z0-9]){_CLOSE}",
        rf"(?i:{_FOREIGN}[^.\n:]{{0,25}}?(?::|=|\b(?:es|est|ist|lautet|é|è)\b|は|은|는|[\u2013\u2014])){_POINTERS}[A-J]{_WHOLE}{_CLOSE}",
    )
)
