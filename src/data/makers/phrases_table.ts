/**
 * How people ask: wordings of every question the makers put, with holes in braces. {o} a picture,
 * {s} the things shown, {1} one of them, {c} "color" or "colour", {x} {y} names of this picture.
 */

export const pictureWords = ["image", "picture", "photo"] as const;

export const shortAnswerSuffixes = [
  " Answer with one word.",
  " Answer in one word.",
  " Answer with a single word.",
  " Give a short answer.",
  " Answer briefly.",
  " Reply with only the answer.",
  " One word only.",
  " Please answer with one word.",
] as const;

export const numberSuffixes = [
  " Answer with a number.",
  " Answer with digits.",
  " Answer with one number.",
  " Give only the number.",
  " Answer with a single number.",
  " Reply with only the number.",
] as const;

export const questions = {
  word: `What word is written in the {o}?|What does the {o} say?|Read the text.|Which word is shown?
    What word is shown in the {o}?|What word is this?|Read the word.|What is written?
    What is written in the {o}?|What text is in the {o}?|Read the text in the {o}.
    What is the word?|What is the word in the {o}?|Which word is written here?|What does it say?
    What does this say?|Read this.|Please read the text.|Please read the word in the {o}.
    Which word is in the {o}?|What word do you see?|What word can you read?
    What is the text in the {o}?|Which word is in this {o}?|What does the text say?
    Read the word in the {o}.|What word is in the {o}?|Tell me the word in the {o}.
    Write the word you see.|Transcribe the text.|Transcribe the word in the {o}.
    What does this {o} say?|Which word does the {o} show?|Can you read the word?
    Can you read this {o}?|What text do you see?|Read it.|Read the {o}.
    What is written on the {o}?|What word is written on the {o}?|What text is shown?
    What is the written word?|Extract the text.|Read the text in this {o}.
    What word appears in the {o}?|Spell the word in the {o}.|OCR`,
  number: `What is the number in the {o}?|What number is this?|Read the number.
    Which number is shown?|What number is shown in the {o}?|What number is written in the {o}?
    What is the number?|What number do you see?|Read the number in the {o}.
    Which number is in the {o}?|What number is in the {o}?|Tell me the number in the {o}.
    Which number is written here?|What number can you read?|Please read the number.
    Which number does the {o} show?|What is the number shown in the {o}?
    Which number is written in the {o}?|What number is shown?|What number does the {o} show?
    What number is in this {o}?|What number appears in the {o}?|Read the digits.`,
  digit: `What digit is this?|Which digit is shown?|What digit is in the {o}?|Read the digit.
    What is the digit in the {o}?|Which digit is in the {o}?|What digit is shown in the {o}?
    What digit is written in the {o}?|Which digit do you see?|What digit do you see?
    Which digit is written by hand?|What handwritten digit is this?`,
  lines: `Read both lines.|What do the two lines say?|Read the two lines.|Read all the text.
    What is written in the two lines?|Transcribe both lines.|Read every line.|Read all lines.`,
  count: `How many {s} are in the {o}?|How many {s} are there?|How many {s} do you see?
    Count the {s}.|Count the {s} in the {o}.|How many {s} are shown?|How many {s} can you see?
    How many {s} are there in the {o}?|How many {s} are in this {o}?
    What is the number of {s} in the {o}?|What is the number of {s}?|How many {s}?
    Please count the {s}.|How many {s} does the {o} show?|Tell me how many {s} are in the {o}.
    How many {s} are visible?|How many {s} are drawn?|Count how many {s} there are.`,
  colour: `What {c} are the {s} in the {o}?|What {c} is the {1}?|What {c} are the {s}?
    Which {c} is the {1}?|What {c} is the {1} in the {o}?|What is the {c} of the {1}?
    What is the {c} of the {s}?|Which {c} are the {s}?|Tell me the {c} of the {1}.
    Name the {c} of the {s}.|What is the {c} of the {1} in the {o}?|What {c} is it?
    Which {c} do you see?|What {c} do you see?|What {c} is this {1}?|Name the {c}.
    What {c} is shown?|In what {c} are the {s} drawn?|What {c} does the {1} have?
    What {c} are they?|What is the {c} of the {s} in the {o}?|Which {c} is shown in the {o}?
    Which {c} is it?`,
  shape: `What shape is shown?|What shapes are in the {o}?|What shape is in the {o}?
    Which shape is shown?|What shape is this?|What shape is it?|Which shape do you see?
    What shape do you see?|Name the shape.|What kind of shape is shown?
    What kind of shapes are in the {o}?|Which shapes are in the {o}?|Which shape is in the {o}?
    What is the shape in the {o}?|What shape is shown in the {o}?|What shapes are shown?
    What shape are the objects?|What shape is the object?|What shape are the objects in the {o}?
    Tell me the shape in the {o}.|What type of shape is this?|What shapes do you see?
    What is the name of the shape?|What shape is drawn?|What shape is the object in the {o}?
    Name the shape in the {o}.|What is this shape?|Which shape is it?`,
  place: `Where is the {1}?|Where is the {1} in the {o}?|In which part of the {o} is the {1}?
    What is the position of the {1}?|Where do you see the {1}?|Where in the {o} is the {1}?
    Is the {1} left, right, top, bottom or center?|Which side is the {1} on?
    Tell me where the {1} is.|What is the position of the {1} in the {o}?`,
  relation: `What is {y} the {x}?|Which shape is {y} the {x}?|What shape is {y} the {x}?
    What can be seen {y} the {x}?|Name the shape {y} the {x}.`,
  colourOf: `What {c} is the {x}?|What is the {c} of the {x}?|Which {c} is the {x}?
    What {c} is the {x} in the {o}?|Name the {c} of the {x}.`,
  exists: `Is there a {x} in the {o}?|Is there a {x}?|Do you see a {x}?|Does the {o} show a {x}?
    Can you see a {x}?`,
  more: `Are there more {x} or {y}?|Which are more, {x} or {y}?|What is there more of, {x} or {y}?`,
  letters: `How many letters does the word have?|How many letters are in the word?
    How many letters are there?|Count the letters.`,
  describe: `Describe the {o}.|What is in the {o}?|What do you see?|What is this?
    What is shown in the {o}?|Describe this {o}.|What can you see in the {o}?|Caption this {o}.`,
  sum: `What is the result?|Calculate.|What is the answer?|Solve it.|Compute the result.
    What is the value?|Solve the problem in the {o}.|What does it make?|How much is it?
    What is the result of the calculation in the {o}?|Work it out.`,
  direction: `In which direction does the {1} move?|Where does the {1} move?|Which way does it go?
    What is the direction of the {1}?`,
  change: `What {c} is the {1} at the end?|Which {c} does the {1} have in the last frame?
    What {c} is it in the end?`,
  lastNumber: `Which number is shown last?|What number comes last?|What is the last number?`,
  sequence: `Read the numbers in order.|Which numbers are shown, in order?|List the numbers.`,
  growth: `How many {s} are there at the end?|How many {s} are in the last frame?`,
} as const;

export type QuestionKind = keyof typeof questions;

/** Questions about charts; {x} and {y} name categories. */
export const chartQuestions = {
  value:
    `What is the value of {x}?|What value does {x} have?|How much is {x}?|Read the value of {x}.
    What is {x}?`,
  highest: `Which is the highest?|Which category has the highest value?|What is the largest?
    Which one is the biggest?|Which has the most?`,
  lowest: `Which is the lowest?|Which category has the lowest value?|What is the smallest?
    Which one is the smallest?|Which has the least?`,
  difference: `What is the difference between {x} and {y}?|How much more is {x} than {y}?`,
  total: `What is the total of all values?|What is the sum of all values?|What do they add up to?`,
  compare: `Is {x} larger than {y}?|Is {x} higher than {y}?|Is {x} more than {y}?`,
  kind: `What kind of chart is this?|What type of chart is shown?|Name the type of the chart.`,
  categories: `How many categories are there?|How many categories does the chart have?
    How many entries are shown?`,
  title: `What is the title of the chart?|What is the title?|What is the chart about?`,
  trend: `Does the line go up or down?|Do the values rise or fall?|What is the trend, up or down?`,
  points: `How many points are shown?|How many points are in the chart?|Count the points.`,
  median: `What is the median of {x}?|At what value is the median of {x}?`,
  caption: `Describe the chart.|What does the chart show?|Read the chart.|Caption this chart.
    Describe this chart.|Read all values of the chart.|What is shown in the chart?`,
} as const;

export type ChartQuestionKind = keyof typeof chartQuestions;

/** Small talk, and questions about a picture that is not there. */
export const talk: readonly (readonly [asked: string, answer: string])[] = [
  [
    "Hello|Hello!|hello|Hi|hi|Hi!|Hello there|Good morning|Hey",
    "Hello. Show me a picture.",
  ],
  [
    "Who are you?|who are you|What are you?|What is your name?|Tell me about you.",
    "I am Nano. Show me a picture.",
  ],
  [
    "What can you do?|what can you do|Help|help|How can you help me?|What do you do?",
    "I read short words and numbers and count simple shapes.",
  ],
  ["Thanks|Thank you|thank you|Thanks!|Thank you.", "You are welcome."],
  ["How are you?|how are you", "I am well. Show me a picture."],
  ["Bye|bye|Goodbye", "Bye."],
  [
    "What is written in the image?|What does the image say?|How many shapes are there?" +
    "|What color is the shape?|Describe the picture.|Read the text.|What is the number?",
    "I see no picture.",
  ],
];

/** The wordings in a text of the tables above. */
export function wordings(text: string): string[] {
  return text.split(/\||\n\s*/).filter((part) => part !== "");
}
