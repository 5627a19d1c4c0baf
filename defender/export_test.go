package defender

// ValidateBehaviors is for tests of a profile's behaviors alone.
var ValidateBehaviors = validateBehaviors
