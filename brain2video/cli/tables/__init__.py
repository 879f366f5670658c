"""Tables, drawn with rich: each function draws what it is handed and reads no file."""
