/** A button that copies text and says whether it worked. */
import { useState } from "hono/jsx/dom";

interface CopyButtonProps {
  /** Made only when asked for: it may hold whole pictures. */
  readonly text: () => string;
}

export function CopyButton({ text }: CopyButtonProps) {
  const [label, setLabel] = useState("Copy");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text());
      setLabel("Copied");
    } catch (_refused) {
      // Browsers refuse outside https and localhost, and when permission is denied.
      setLabel("Not allowed here");
    }
    setTimeout(() => setLabel("Copy"), 2000);
  };
  return <button type="button" class="link" onClick={copy}>{label}</button>;
}
