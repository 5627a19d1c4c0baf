package findingevent

import "encoding/json"

// text is a JSON string. A number or a boolean is read as it is written, anything else as "".
type text string

func (t *text) UnmarshalJSON(data []byte) error {
	*t = ""
	switch data[0] {
	case '"':
		var s string
		if err := json.Unmarshal(data, &s); err != nil {
			return err
		}
		*t = text(s)
	case '{', '[', 'n':
	default:
		*t = text(data)
	}
	return nil
}

// texts is an object of strings. Values that are objects or lists are left out.
type texts map[string]string

func (t *texts) UnmarshalJSON(data []byte) error {
	var values lenient[map[string]text]
	if err := values.UnmarshalJSON(data); err != nil {
		return err
	}
	*t = nil
	for k, v := range values.value {
		if v == "" {
			continue
		}
		if *t == nil {
			*t = texts{}
		}
		(*t)[k] = string(v)
	}
	return nil
}

// lenient reads JSON of another type than T as the zero value.
type lenient[T any] struct{ value T }

func (l *lenient[T]) UnmarshalJSON(data []byte) error {
	var v T
	if json.Unmarshal(data, &v) == nil {
		l.value = v
	}
	return nil
}
