/** Version of the product, as `/openapi.json` and the log give it. */
export const VERSION = "0.1.0";
